"""Every shipped spec checks; its networks are those of the papers and of torchvision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dlc
from dlc import api
from dlc.compiler.build import build_inference
from dlc.compiler.initial import initial_weights
from dlc.compiler.interpret import interpret
from dlc.compiler.network import Network
from dlc.compiler.training_step import build_training

SPECS = Path(dlc.__file__).parent / "specs"
FILES = sorted(SPECS.rglob("*.dlspec"))


def network(file: str, model: str) -> Network:
    return api.one_network(SPECS / file, model=model)


@pytest.mark.parametrize("file", FILES, ids=[str(f.relative_to(SPECS)) for f in FILES])
def test_a_shipped_spec_checks_and_its_recipes_build(file: Path) -> None:
    checked = api.check(file)

    for recipe in checked.recipes.values():
        graph = build_training(recipe, batch=2)
        assert "train.loss" in graph.outputs and graph.updates


@pytest.mark.parametrize("file", [f for f in FILES if f.parent == SPECS], ids=lambda f: f.name)
def test_every_shipped_model_builds(file: Path) -> None:
    for model in api.check(file).models.values():
        outputs = build_inference(model.network).outputs

        assert outputs


class Basic(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            self.downsample = nn.Sequential(*shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        short = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + short)


class ResNet18(nn.Module):
    """torchvision's, with its names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Basic(64, 64, 1), Basic(64, 64, 1))
        self.layer2 = nn.Sequential(Basic(64, 128, 2), Basic(128, 128, 1))
        self.layer3 = nn.Sequential(Basic(128, 256, 2), Basic(256, 256, 1))
        self.layer4 = nn.Sequential(Basic(256, 512, 2), Basic(512, 512, 1))
        self.fc = nn.Linear(512, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def test_a_torchvision_state_dict_of_resnet18_loads_and_gives_its_answers() -> None:
    torch.manual_seed(0)
    module = ResNet18()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.2, 0.2)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    weights = {k: v.numpy() for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    own = network("resnet18.dlspec", "ResNet18")
    image = torch.randn(1, 3, 224, 224)

    shapes = {name: spec.shape for name, spec in own.parameter_specs().items()}
    outputs, _ = interpret(build_inference(own), {**weights, "image": image.numpy()})
    expected = module.eval()(image).detach().numpy()

    assert shapes == {name: array.shape for name, array in weights.items()}
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-3, atol=1e-4)


def test_vgg_and_alexnet_have_torchvisions_names() -> None:
    vgg, alexnet = network("vgg.dlspec", "VggDBN"), network("alexnet.dlspec", "AlexNet")

    names = list(vgg.parameter_specs())
    assert names[:7] == [
        *(f"features.0.{key}" for key in ("weight", "bias")),
        *(f"features.1.{key}" for key in ("weight", "bias", "running_mean", "running_var")),
        "features.3.weight",
    ]
    assert names[-6:] == [f"classifier.{i}.{key}" for i in (0, 3, 6) for key in ("weight", "bias")]
    convolutions = {name.split(".")[1] for name in alexnet.parameter_specs() if name.startswith("features")}
    assert convolutions == {"0", "3", "6", "8", "10"}
    assert {n.split(".")[1] for n in alexnet.parameter_specs() if n.startswith("classifier")} == {"1", "4", "6"}


def test_googlenets_heads_are_there_in_training_only() -> None:
    googlenet = network("googlenet.dlspec", "GoogLeNet")

    training, inference = googlenet.parameter_specs(), googlenet.parameter_specs(training=False)

    assert "aux1.fc2.bias" in training and "aux1.fc2.bias" not in inference
    assert "inception3a.branch4.1.conv.weight" in inference
    assert list(build_inference(googlenet).outputs) == ["logits"]


def test_lenet5_of_1998_learns_to_recall_a_digit() -> None:
    recipe = next(iter(api.check(SPECS / "lenet5_1998.dlspec").recipes.values()))
    graph = build_training(recipe, batch=4)
    generator = np.random.default_rng(0)
    image = generator.normal(size=(4, 1, 32, 32)).astype(np.float32)
    arrays = initial_weights(recipe.network, recipe)
    scalars = {"train.rate.0": np.float32(5e-3), "train.seed": np.uint32(0)}
    losses = []
    for step in range(60):
        feeds = {**arrays, **scalars, "image": image, "train.labels": np.arange(4, dtype=np.int32)}
        outputs, updated = interpret(graph, {**feeds, "train.step": np.uint32(step)})
        losses.append(float(outputs["train.loss"]))
        arrays |= updated

    assert losses[-1] < 0.7 * losses[0]
    assert np.array_equal(arrays["out.weight"], initial_weights(recipe.network, recipe)["out.weight"])
