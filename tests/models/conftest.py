"""What a network is held against: a PyTorch module with the same weights, in float64, for the answers and for one step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from dlc import api
from dlc.compiler.interpret import interpret
from dlc.compiler.losses.cross_entropy import CrossEntropy
from dlc.compiler.network import Network
from dlc.compiler.optimizers.sgd import Sgd
from dlc.compiler.recipe import DataRecipe, LossTerm, OptimizerGroup, Recipe
from dlc.compiler.training_step import build_training
from dlc.runtime.training.checkpoint import Weights
from dlc.training import TrainingSession

SPECS = "alexnet", "googlenet", "lenet5", "lenet5_1998", "resnet", "resnet_cifar", "vgg"
IMPORTS = "\n".join([f'import "{name}.dlspec" as {name}' for name in SPECS] + ['import "blocks/residual.dlspec"'])
RATE = 4096.0  # weight - RATE * gradient: the gradient is read back with little of the weight's rounding
HEAD = 0.3  # what an auxiliary output's loss counts
TILES = 2e-6  # what Winograd's tiles are off by, root mean square, relative to a layer's
CLEAR = 1e-5  # float32 errs by a tenth of it


@pytest.fixture
def network(tmp_path: Path) -> Callable[[str], Network]:
    """`network("vgg.Vgg([1, 1, 2, 2, 2], size=64)")`: a shipped model with arguments of one's own."""

    def build(expression: str) -> Network:
        spec = tmp_path / "spec.dlspec"
        spec.write_text(f"{IMPORTS}\n\nmodel Model = {expression}\n")
        return api.one_network(spec)

    return build


def settle(module: nn.Module) -> nn.Module:
    """The module with running statistics and scales of batch norms that are not those they begin with."""
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.2, 0.2)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
    return module


@dataclass(frozen=True)
class Twins:
    """A network and a PyTorch module that must do the same with the same weights, which travel in a safetensors file."""

    network: Network
    module: nn.Module
    folder: Path
    made: dict[tuple[int, bool], tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def inference_error(self, count: int = 2) -> float:
        """How far the compiled network's answers are from the module's, relative to the largest."""
        path = self.folder / "weights.safetensors"
        save_file(self.module.state_dict(), path)
        session = api.compile_network(self.network, weights=path)
        images, _ = self._samples(count)
        with torch.inference_mode():
            expected = copy.deepcopy(self.module).double().eval()(images.double()).numpy()
        return float(np.abs(session(images.numpy()) - expected).max() / np.abs(expected).max())

    def step_errors(self, count: int = 4) -> dict[str, float]:
        """How far one compiled training step is from the module's: the loss, each gradient, each running statistic, by
        their norms."""
        images, labels = self._samples(count, clear=True)
        recipe = self._recipe(count)
        session = TrainingSession(recipe)
        before = self._state()
        assert set(before) == {
            spec.name for spec in session.step.program.weights if spec.role not in ("derived", "state")
        }
        session.set_weights(before)
        known = {spec.name for spec in session.step.program.inputs}
        feeds = self._feeds(images.numpy(), labels, np.float32(RATE))
        found = session.step.run({name: value for name, value in feeds.items() if name in known})
        after = Weights(session.step.program, session.arrays).canonical(state=False)
        return self._errors(float(found["train.loss"]), before, after, RATE, images, labels)

    def rounding(self, count: int = 4) -> dict[str, float]:
        """How far PyTorch's own step in float32 is from that in float64, on the images of `step_errors`."""
        return self._own_errors(copy.deepcopy(self.module).train(), count)

    def sensitivity(self, count: int = 4) -> dict[str, float]:
        """How far PyTorch's step in float64 moves where the results of convolutions are off by TILES."""
        module = copy.deepcopy(self.module).double().train()
        noise = torch.Generator().manual_seed(0)

        def disturb(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            size = TILES * output.detach().square().mean().sqrt()
            return output + size * torch.randn(output.shape, generator=noise, dtype=output.dtype)

        for layer in (m for m in module.modules() if isinstance(m, nn.Conv2d)):
            layer.register_forward_hook(disturb)
        return self._own_errors(module, count)

    def _own_errors(self, module: nn.Module, count: int) -> dict[str, float]:
        """How far a step of PyTorch's, by a module in its own precision, is from that in float64, on `step_errors`' images."""
        images, labels = self._samples(count, clear=True)
        before = {k: v.numpy().copy() for k, v in module.state_dict().items()}
        loss = self._loss(module(images.to(next(module.parameters()).dtype)), labels)
        loss.backward()
        after = {k: v.numpy() for k, v in module.state_dict().items()}
        after |= {k: before[k].astype(np.float64) - p.grad.numpy() for k, p in module.named_parameters()}
        return self._errors(float(loss.detach()), before, after, 1.0, images, labels)

    def _loss(self, answers: Any, labels: torch.Tensor) -> torch.Tensor:
        """The main output's cross entropy and the heads', weighted."""
        loss = F.cross_entropy(getattr(answers, "logits", answers), labels)
        for o in self.network.outputs:
            if o.training_only:
                head = getattr(answers, o.name.replace("aux", "aux_logits"))
                loss = loss + HEAD * F.cross_entropy(head, labels)
        return loss

    def step_excess(self, loss: float, statistics: float, gradients: float) -> dict[str, float]:
        """Of the compiled step's errors the largest of each kind that is beyond its bound, if it is also beyond four times what
        PyTorch's own float32 is off there, and beyond what a step in float64 is off whose convolutions err as tiles do:
        relus change sides with the last bits, and few samples make norms sensitive."""
        bounds = {"loss": loss, "statistics": statistics, "gradients": gradients}
        found = {k: v for k, v in _kinds(self.step_errors()).items() if v >= bounds[k]}
        for allowed, errors in ((4, self.rounding), (1, self.sensitivity)):
            own = _kinds(errors()) if found else {}
            found = {k: v for k, v in found.items() if v >= allowed * own[k]}
        return found

    def exact_step_errors(self, count: int = 4) -> dict[str, float]:
        """The same of the training graph by the reference rules, in float64.

        Norms over two pixels leave gradients that are next to nothing, of which even float64 gets few digits right.
        """
        images, labels = self._samples(count)
        before = {name: array.astype(np.float64) for name, array in self._state().items()}
        feeds = self._feeds(images.double().numpy(), labels, np.float64(1.0))
        found, updated = interpret(build_training(self._recipe(count), count), {**before, **feeds})
        return self._errors(float(found["train.loss"]), before, {**before, **updated}, 1.0, images, labels)

    def _samples(self, count: int, clear: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """`_tried`, once."""
        if (count, clear) not in self.made:
            self.made[count, clear] = self._tried(count, clear)
        return self.made[count, clear]

    def _tried(self, count: int, clear: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels; if `clear`, of some tries those that leave no relu so near its kink that float32 may err."""
        (classes,) = next(o for o in self.network.outputs if not o.training_only).tensor.shape
        labels = torch.arange(count) * 7 % classes
        tries = []
        for seed in range(20 if clear else 1):
            images = torch.randn(count, *self.network.inputs[0].shape, generator=torch.Generator().manual_seed(seed))
            tries.append((self._margin(images) if clear else 0.0, seed, images))
            if tries[-1][0] > CLEAR:
                break
        return max(tries, key=lambda t: t[:2])[2], labels

    def _margin(self, images: torch.Tensor) -> float:
        """How near any relu's input comes to 0, relative to the layer's root mean square."""
        margins = []

        def measure(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if output.ndim == 4:
                margins.append(float(output.abs().min() / output.square().mean().sqrt()))

        module = copy.deepcopy(self.module).train()
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
        for layer in norms or [m for m in module.modules() if isinstance(m, nn.Conv2d)]:
            layer.register_forward_hook(measure)
        with torch.no_grad():
            module(images)
        return min(margins)

    def _recipe(self, count: int) -> Recipe:
        terms = tuple(LossTerm(CrossEntropy(), o.name, HEAD if o.training_only else 1.0) for o in self.network.outputs)
        sgd = (OptimizerGroup(Sgd(1.0)),)
        return Recipe("Step", self.network, DataRecipe("none", None), terms, sgd, batch=count, epochs=1)

    def _state(self) -> dict[str, np.ndarray]:
        state = self.module.state_dict()
        return {k: v.numpy().copy() for k, v in state.items() if not k.endswith("num_batches_tracked")}

    def _feeds(self, images: np.ndarray, labels: torch.Tensor, rate: np.generic) -> dict[str, Any]:
        scalars = {"train.rate.0": rate, "train.step": np.uint32(0), "train.seed": np.uint32(0)}
        return {"image": images, "train.labels": labels.numpy().astype(np.int32), **scalars}

    def _errors(
        self,
        loss: float,
        before: Mapping[str, np.ndarray],
        after: Mapping[str, np.ndarray],
        rate: float,
        images: torch.Tensor,
        labels: torch.Tensor,
    ) -> dict[str, float]:
        module = copy.deepcopy(self.module).double().train()
        expected = self._loss(module(images.double()), labels)
        expected.backward()
        errors = {"loss": abs(loss - expected.item()) / abs(expected.item())}
        gradients = {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}
        least = 0.1 * float(np.median([np.linalg.norm(g) for g in gradients.values()]))  # a bias before a norm has none
        for name, gradient in gradients.items():
            actual = (before[name].astype(np.float64) - after[name]) / rate
            errors[name] = float(np.linalg.norm(actual - gradient) / max(np.linalg.norm(gradient), least))
        for name, buffer in module.named_buffers():
            if not name.endswith("num_batches_tracked"):
                errors[name] = float(np.linalg.norm(after[name] - buffer.numpy()) / np.linalg.norm(buffer.numpy()))
        return errors


def _kinds(errors: Mapping[str, float]) -> dict[str, float]:
    """The largest error of the loss, of the running statistics and of the gradients."""
    largest: dict[str, float] = {}
    for name, error in errors.items():
        kind = "loss" if name == "loss" else "statistics" if "running" in name else "gradients"
        largest[kind] = max(error, largest.get(kind, 0.0))
    return largest


@pytest.fixture
def twins(network: Callable[[str], Network], tmp_path: Path) -> Callable[[str, nn.Module], Twins]:
    """A shipped model with arguments and its PyTorch module, settled."""
    return lambda expression, module: Twins(network(expression), settle(module), tmp_path)
