"""Training steps of a small convolution, batch norm and residual network are the same PyTorch module's steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dlc.compiler.build import build_evaluation, build_inference
from dlc.compiler.errors import DlcError
from dlc.compiler.initial import initial_state, initial_weights
from dlc.compiler.initializers.constant import Constant
from dlc.compiler.initializers.fan import Xavier
from dlc.compiler.initializers.random import Normal
from dlc.compiler.interpret import interpret
from dlc.compiler.ir import Graph, N, Parameter, TensorType
from dlc.compiler.layers.activation import Relu
from dlc.compiler.layers.arithmetic import Add
from dlc.compiler.layers.convolution import Conv
from dlc.compiler.layers.dropout import Dropout
from dlc.compiler.layers.linear import Linear
from dlc.compiler.layers.normalization import BatchNorm
from dlc.compiler.layers.pooling import GlobalAvgPool, MaxPool
from dlc.compiler.layers.shape import Flatten
from dlc.compiler.losses.cross_entropy import CrossEntropy
from dlc.compiler.network import Network
from dlc.compiler.optimizers.adam import Adam, AdamW
from dlc.compiler.optimizers.base import Optimizer
from dlc.compiler.optimizers.sgd import Sgd
from dlc.compiler.recipe import DataRecipe, InitGroup, LossTerm, OptimizerGroup, Recipe, Regularizer
from dlc.compiler.training_step import build_training

BATCH, STEPS, RATE = 4, 4, 0.05


def network_of(builder) -> Network:
    x = builder.input(2, 8, 8)
    a = builder.call(Conv(6, 3, pad="same", bias=False), x, name="conv1")
    a = builder.call(Relu(), builder.call(BatchNorm(), a, name="bn1"))
    b = builder.call(Conv(6, 3, pad=1, bias=False), a, name="layer1.0.conv1")
    b = builder.call(BatchNorm(momentum=0.3), b, name="layer1.0.bn1")
    a = builder.call(Relu(), builder.call(Add(), b, a))
    pooled = builder.call(MaxPool(2), a)
    aux = builder.call(Linear(5), builder.call(GlobalAvgPool(), pooled), name="aux")
    builder.output("aux", aux, training_only=True)
    builder.output("logits", builder.call(Linear(5), builder.call(Flatten(), pooled), name="fc"))
    return builder.network()


class Twin(nn.Module):
    """The same network, with torchvision-like names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        block = nn.Module()
        block.conv1 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        block.bn1 = nn.BatchNorm2d(6, momentum=0.3)
        self.layer1 = nn.Sequential(block)
        self.aux = nn.Linear(6, 5)
        self.fc = nn.Linear(96, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.layer1[0].bn1(self.layer1[0].conv1(x)) + x)
        x = F.max_pool2d(x, 2)
        return self.aux(x.mean((2, 3))), self.fc(x.flatten(1))


def recipe_of(network: Network, *optimizers: OptimizerGroup, **settings) -> Recipe:
    terms = settings.pop("losses", (LossTerm(CrossEntropy(0.1), "logits"), LossTerm(CrossEntropy(), "aux", 0.3)))
    return Recipe("Test", network, DataRecipe("none", None), terms, optimizers, batch=BATCH, epochs=1, **settings)


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(5)
    return [
        (generator.normal(size=(BATCH, 2, 8, 8)), generator.integers(0, 5, BATCH).astype(np.int32))
        for _ in range(STEPS)
    ]


def start_of(recipe: Recipe) -> dict[str, np.ndarray]:
    weights = {**initial_weights(recipe.network, recipe, seed=3), **initial_state(recipe)}
    return {name: array.astype(np.float64) for name, array in weights.items()}


def train(graph: Graph, arrays: dict[str, np.ndarray], rates: int = 1) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses and arrays of a few steps by the interpreter, in float64."""
    losses = []
    for step, (image, labels) in enumerate(batches()):
        scalars = {f"train.rate.{i}": np.float64(RATE) for i in range(rates)}
        scalars |= {"train.step": np.uint32(step), "train.seed": np.uint32(0)}
        outputs, updated = interpret(graph, {**arrays, **scalars, "image": image, "train.labels": labels})
        losses.append(float(outputs["train.loss"]))
        arrays = {**arrays, **updated}
    return losses, arrays


def torch_train(module: nn.Module, optimizer: torch.optim.Optimizer, clip: float | None = None) -> list[float]:
    losses = []
    for image, labels in batches():
        target = torch.tensor(labels, dtype=torch.int64)
        aux, logits = module(torch.tensor(image))
        loss = F.cross_entropy(logits, target, label_smoothing=0.1) + 0.3 * F.cross_entropy(aux, target)
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


def twin_of(arrays: dict[str, np.ndarray]) -> Twin:
    module = Twin().double()
    state = module.state_dict()
    assert {k for k in state if not k.endswith("num_batches_tracked")} == {k for k in arrays if "@" not in k}
    module.load_state_dict({k: torch.tensor(arrays[k]) if k in arrays else v for k, v in state.items()})
    return module.train()


def l2(rate: float) -> tuple[Regularizer, ...]:
    return (Regularizer("l2", rate),)


@pytest.mark.parametrize(
    ("optimizer", "rules", "make"),
    [
        (Sgd(RATE), (), lambda p: torch.optim.SGD(p, RATE)),
        (Sgd(RATE, 0.9), l2(1e-2), lambda p: torch.optim.SGD(p, RATE, 0.9, weight_decay=1e-2)),
        (
            Sgd(RATE, 0.9, nesterov=True),
            l2(1e-2),
            lambda p: torch.optim.SGD(p, RATE, 0.9, weight_decay=1e-2, nesterov=True),
        ),
        (Adam(RATE), l2(1e-2), lambda p: torch.optim.Adam(p, RATE, weight_decay=1e-2)),
        (Adam(RATE), (Regularizer("decay", 0.1),), lambda p: torch.optim.AdamW(p, RATE, weight_decay=0.1)),
        (AdamW(RATE, weight_decay=0.1), (), lambda p: torch.optim.AdamW(p, RATE, weight_decay=0.1)),
    ],
    ids=["sgd", "momentum", "nesterov", "adam", "decay", "adamw"],
)
def test_training_steps_are_torchs(
    builder, optimizer: Optimizer, rules: tuple[Regularizer, ...], make: Callable[..., torch.optim.Optimizer]
) -> None:
    recipe = recipe_of(network_of(builder), OptimizerGroup(optimizer), regularizers=rules)
    start = start_of(recipe)
    module = twin_of(start)

    losses, arrays = train(build_training(recipe, BATCH), start)
    expected = torch_train(module, make(module.parameters()))

    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for name, tensor in module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(arrays[name], tensor.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


def test_gradients_are_clipped_by_their_common_norm(builder) -> None:
    rules = (Regularizer("clip_norm", 0.1),)
    recipe = recipe_of(network_of(builder), OptimizerGroup(Sgd(RATE)), regularizers=rules)
    start = start_of(recipe)
    module = twin_of(start)

    _, arrays = train(build_training(recipe, BATCH), start)
    torch_train(module, torch.optim.SGD(module.parameters(), RATE), clip=0.1)

    np.testing.assert_allclose(arrays["fc.weight"], module.fc.weight.detach().numpy(), rtol=1e-5, atol=1e-7)


def test_regularizers_leave_out_what_is_excluded(builder) -> None:
    rules = (Regularizer("l2", 0.1, ("bias", "batch_norm")),)
    recipe = recipe_of(network_of(builder), OptimizerGroup(Sgd(RATE)), regularizers=rules)
    start = start_of(recipe)
    module = twin_of(start)
    decayed = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim == 1]

    _, arrays = train(build_training(recipe, BATCH), start)
    torch_train(module, torch.optim.SGD([{"params": decayed, "weight_decay": 0.1}, {"params": others}], RATE))

    for name, tensor in module.named_parameters():
        np.testing.assert_allclose(arrays[name], tensor.detach().numpy(), rtol=1e-5, atol=1e-7, err_msg=name)


def test_each_weight_is_trained_by_the_first_optimizer_whose_pattern_matches(builder) -> None:
    groups = OptimizerGroup(Sgd(RATE), "layer1.*"), OptimizerGroup(Sgd(RATE, 0.9), "fc")
    recipe = recipe_of(network_of(builder), *groups)
    start = start_of(recipe)

    graph = build_training(recipe, BATCH)
    _, arrays = train(graph, start, rates=2)

    moved = {name for name, array in arrays.items() if not np.array_equal(array, start[name])}
    assert {name for name in moved if "running" not in name} == {
        "layer1.0.conv1.weight",
        "layer1.0.bn1.weight",
        "layer1.0.bn1.bias",
        "fc.weight",
        "fc.bias",
        "fc.weight@momentum",
        "fc.bias@momentum",
    }


def test_a_head_that_no_loss_judges_is_left_out(builder) -> None:
    network = network_of(builder)
    recipe = recipe_of(network, OptimizerGroup(Sgd(RATE)), losses=(LossTerm(CrossEntropy(), "logits"),))

    graph = build_training(recipe, BATCH)

    assert list(graph.outputs) == ["train.loss", "logits"]
    assert not any(p.op.key.startswith("aux") for p in graph.parameters)


def test_inference_has_a_symbolic_batch_and_no_auxiliary_head(builder) -> None:
    network = network_of(builder)

    graph = build_inference(network)

    assert [v.type for v in graph.inputs] == [TensorType((N, 2, 8, 8))]
    assert {name: v.type for name, v in graph.outputs.items()} == {"logits": TensorType((N, 5))}
    assert not graph.updates
    assert [p.op.key for p in build_evaluation(network).parameters] == [p.op.key for p in graph.parameters]


def test_every_value_of_a_layer_carries_its_name(builder) -> None:
    graph = build_inference(network_of(builder))

    labels = {v.label for v in graph.values if v.operands}

    assert {"conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1", "fc"} <= labels


def test_images_leave_as_they_came_channels_first(builder) -> None:
    builder.output("y", builder.call(Conv(3, 3), builder.input(2, 6, 5)))

    graph = build_inference(builder.network())

    assert graph.outputs["y"].type == TensorType((N, 3, 4, 3))


def test_a_layer_used_twice_shares_its_weights_and_sums_their_gradients(builder) -> None:
    x = builder.input(5)
    y = builder.call(Linear(5), x, name="shared")
    builder.output("logits", builder.call(Linear(5), y, name="again", weights="shared"))
    recipe = recipe_of(builder.network(), OptimizerGroup(Sgd(RATE)), losses=(LossTerm(CrossEntropy(), "logits"),))
    start = start_of(recipe)
    image, labels = np.random.default_rng(0).normal(size=(BATCH, 5)), np.array([0, 1, 2, 3], np.int32)
    weight, bias = (torch.tensor(start[f"shared.{k}"], requires_grad=True) for k in ("weight", "bias"))

    feeds = {"train.rate.0": np.float64(RATE), "train.step": np.uint32(0), "train.seed": np.uint32(0)}
    _, updated = interpret(build_training(recipe, BATCH), {**start, **feeds, "image": image, "train.labels": labels})
    hidden = F.linear(torch.tensor(image), weight, bias)
    F.cross_entropy(F.linear(hidden, weight, bias), torch.tensor(labels, dtype=torch.int64)).backward()

    expected = (weight - RATE * weight.grad).detach().numpy()
    np.testing.assert_allclose(updated["shared.weight"], expected, rtol=1e-6)


def test_a_batch_norm_used_twice_keeps_both_statistics(builder) -> None:
    x, y = builder.input(3, name="a"), builder.input(3, name="b")
    first = builder.call(BatchNorm(), x, name="bn")
    second = builder.call(BatchNorm(), y, name="bn2", weights="bn")
    builder.output("logits", builder.call(Add(), first, second))
    recipe = recipe_of(builder.network(), OptimizerGroup(Sgd(RATE)), losses=(LossTerm(CrossEntropy(), "logits"),))
    a, b = np.random.default_rng(0).normal(2.0, 1.0, size=(2, BATCH, 3))
    module = nn.BatchNorm1d(3).double()

    feeds = {"train.rate.0": np.float64(RATE), "train.step": np.uint32(0), "train.seed": np.uint32(0)}
    feeds |= {"train.labels": np.zeros(BATCH, np.int32), "a": a, "b": b}
    _, updated = interpret(build_training(recipe, BATCH), {**start_of(recipe), **feeds})
    module(torch.tensor(a)), module(torch.tensor(b))

    np.testing.assert_allclose(updated["bn.running_mean"], module.running_mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(updated["bn.running_var"], module.running_var.numpy(), rtol=1e-6)


@pytest.mark.parametrize("at", ["training", "inference"])
def test_dropout_drops_its_share_anew_in_every_step(builder, at: str) -> None:
    x = builder.input(1000)
    builder.output("logits", builder.call(Dropout(0.3, at), x))
    recipe = recipe_of(builder.network(), OptimizerGroup(Sgd(RATE)), losses=(LossTerm(CrossEntropy(), "logits"),))
    graph = build_training(recipe, BATCH)
    feeds = {"train.rate.0": np.float32(RATE), "train.seed": np.uint32(0), "train.labels": np.zeros(BATCH, np.int32)}
    feeds["image"] = np.ones((BATCH, 1000), np.float32)

    first, second, again = (
        interpret(graph, {**feeds, "train.step": np.uint32(step)})[0]["logits"] for step in (0, 1, 0)
    )

    assert abs((first == 0).mean() - 0.3) < 0.02
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.7) if at == "training" else np.float32(1)}
    assert not np.array_equal(first, second)
    assert np.array_equal(first, again)


def test_prepare_sees_the_forward_graph_with_the_loss(builder) -> None:
    seen: list[Graph] = []
    recipe = recipe_of(network_of(builder), OptimizerGroup(Sgd(RATE)))

    build_training(recipe, BATCH, prepare=lambda graph: seen.append(graph) or graph)

    (graph,) = seen
    assert "train.loss" in graph.outputs
    assert all(isinstance(p.op, Parameter) and "running" in p.op.key for p in graph.updates)


def test_initial_weights_depend_on_seed_and_name_alone(builder) -> None:
    network = network_of(builder)
    other = type(builder)()
    other.output("y", other.call(Conv(6, 3, pad="same", bias=False), other.input(2, 8, 8), name="conv1"))

    first, again, differs = (initial_weights(network, seed=s) for s in (0, 0, 1))
    alone = initial_weights(other.network(), seed=0)

    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not np.array_equal(first["conv1.weight"], differs["conv1.weight"])
    assert np.array_equal(first["conv1.weight"], alone["conv1.weight"])
    assert not np.array_equal(first["fc.weight"].ravel()[:30], first["aux.weight"].ravel()[:30])


def test_initializers_are_chosen_by_pattern(builder) -> None:
    network = network_of(builder)
    init = (
        InitGroup(Normal(0.01), "layer1.*"),
        InitGroup(Constant(1.0), "fc.bias"),
        InitGroup(Xavier()),
    )
    recipe = recipe_of(network, OptimizerGroup(Sgd(RATE)), init=init)

    weights = initial_weights(network, recipe)

    assert weights["layer1.0.conv1.weight"].std() < 0.012
    assert not weights["aux.bias"].any()
    assert (weights["layer1.0.bn1.weight"] == 1).all()
    assert (weights["fc.bias"] == 1).all()
    assert np.abs(weights["fc.weight"]).max() <= np.sqrt(6 / (96 + 5))
    assert (weights["bn1.running_var"] == 1).all()


def test_a_recipe_without_loss_is_refused(builder) -> None:
    recipe = recipe_of(network_of(builder), OptimizerGroup(Sgd(RATE)), losses=())

    with pytest.raises(DlcError, match="has no loss"):
        build_training(recipe, BATCH)
