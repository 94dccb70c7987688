"""The networks that torchvision has: its weights load by name, and its answers, gradients and statistics come out."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

Make = Callable[[ModuleType], nn.Module]
FULL, SMALL = "", "classes=10, size=64, "


def vgg(plan: list[int | str], *, norm: bool, classes: int = 1000) -> Make:
    def make(models: ModuleType) -> nn.Module:
        module = models.vgg.VGG(models.vgg.make_layers(plan, norm), classes, True, 0.0)
        if classes < 1000:  # as small as `hidden=16` makes the shipped model
            ends = [nn.Linear(25088, 16), nn.Linear(16, 16), nn.Linear(16, classes)]
            module.classifier = nn.Sequential(
                ends[0], nn.ReLU(), nn.Dropout(0.0), ends[1], nn.ReLU(), nn.Dropout(0.0), ends[2]
            )
        return module

    return make


def googlenet(classes: int) -> Make:
    return lambda models: models.GoogLeNet(classes, True, False, True, None, 0.0, 0.0)


def resnet(block: str, depths: list[int], classes: int) -> Make:
    return lambda models: models.resnet.ResNet(getattr(models.resnet, block), depths, classes)


def networks() -> dict[str, tuple[str, Make]]:
    """Each variant: the shipped model, without dropout, which no two systems draw alike, and torchvision's."""
    found: dict[str, tuple[str, Make]] = {
        "alexnet": ("alexnet.AlexNet(drop=0.0)", lambda models: models.AlexNet(1000, 0.0)),
        "googlenet": ("googlenet.GoogLeNet(drop=0.0, head_drop=0.0)", googlenet(1000)),
    }
    for name, counts in {"11": [1, 1, 2, 2, 2], "13": [2] * 5, "16": [2, 2, 3, 3, 3], "19": [2, 2, 4, 4, 4]}.items():
        plan = [c for n, w in zip(counts, [64, 128, 256, 512, 512], strict=True) for c in [w] * n + ["M"]]
        found[f"vgg{name}"] = f"vgg.Vgg({counts}, drop=0.0)", vgg(plan, norm=False)
        found[f"vgg{name}_bn"] = f"vgg.Vgg({counts}, g => [batch_norm, relu], drop=0.0)", vgg(plan, norm=True)
    for name, depths in {"18": [2, 2, 2, 2], "34": [3, 4, 6, 3]}.items():
        found[f"resnet{name}"] = f"resnet.ResNet(Basic, {depths})", resnet("BasicBlock", depths, 1000)
    for name, depths in {"50": [3, 4, 6, 3], "101": [3, 4, 23, 3], "152": [3, 8, 36, 3]}.items():
        found[f"resnet{name}"] = f"resnet.ResNet(Bottleneck, {depths})", resnet("Bottleneck", depths, 1000)
    return found


NETWORKS = networks()
PLAN: list[int | str] = [64, "M", 128, "M", 256, "M", 512, 512, "M", 512, "M"]
SMALL_NETWORKS: dict[str, tuple[str, Make]] = {
    "vgg": ("vgg.Vgg([1, 1, 1, 2, 1], drop=0.0, classes=10, size=32, hidden=16)", vgg(PLAN, norm=False, classes=10)),
    "vgg_bn": (
        "vgg.Vgg([1, 1, 1, 2, 1], g => [batch_norm, relu], drop=0.0, classes=10, size=32, hidden=16)",
        vgg(PLAN, norm=True, classes=10),
    ),
    "resnet": ("resnet.ResNet(Basic, [1, 1, 2, 1], classes=10, size=32)", resnet("BasicBlock", [1, 1, 2, 1], 10)),
    "resnet_deep": (
        "resnet.ResNet(Bottleneck, [1, 1, 2, 1], classes=10, size=32)",
        resnet("Bottleneck", [1, 1, 2, 1], 10),
    ),
}
GOOGLENET = "googlenet.GoogLeNet(drop=0.0, head_drop=0.0, classes=10, size=64)", googlenet(10)


@pytest.fixture
def pair(twins: Any, torchvision_models: ModuleType) -> Callable[[tuple[str, Make]], Any]:
    def build(case: tuple[str, Make]) -> Any:
        torch.manual_seed(0)
        return twins(case[0], case[1](torchvision_models))

    return build


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_have_torchvisions_names_and_shapes(name: str, network: Any, torchvision_models: ModuleType) -> None:
    expression, make = NETWORKS[name]
    with torch.device("meta"):
        state = make(torchvision_models).state_dict()

    own = {key: spec.shape for key, spec in network(expression).parameter_specs().items()}

    assert own == {key: tuple(v.shape) for key, v in state.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", ["vgg_bn", "resnet", "resnet_deep"])
def test_a_small_network_gives_torchvisions_answers(name: str, pair: Any) -> None:
    assert pair(SMALL_NETWORKS[name]).inference_error() < 1e-4


def test_googlenet_gives_torchvisions_answers(pair: Any) -> None:
    assert pair(GOOGLENET).inference_error() < 1e-4


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_a_compiled_step_of_a_small_network_is_torchvisions(name: str, pair: Any) -> None:
    errors = pair(SMALL_NETWORKS[name]).step_errors()

    assert max(errors.values()) < 1e-3, sorted(errors, key=errors.__getitem__)[-5:]


def test_a_step_of_googlenet_with_its_heads_is_torchvisions(pair: Any) -> None:
    errors = pair(GOOGLENET).exact_step_errors()

    assert max(errors.values()) < 1e-6, sorted(errors, key=errors.__getitem__)[-5:]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_torchvisions_answers(name: str, pair: Any) -> None:
    assert pair(NETWORKS[name]).inference_error() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_compiled_step_is_torchvisions(name: str, pair: Any) -> None:
    assert not pair(NETWORKS[name]).step_excess(loss=1e-4, statistics=1e-4, gradients=1e-3)
