"""Networks of torchvision, as PyTorch's exporter writes them, folded and with names of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from dlc import importing
from dlc.importing import ImportReport

FAST = {
    "resnet18": 30,
    "mobilenet_v3_small": 55,
    "shufflenet_v2_x0_5": 40,
    "densenet121": 35,
}
SLOW = {
    "alexnet": 25,
    "vgg11_bn": 30,
    "googlenet": 40,
    "resnet50": 40,
    "squeezenet1_1": 30,
    "mobilenet_v2": 45,
    "efficientnet_b0": 65,
    "mnasnet0_5": 50,
    "regnet_y_400mf": 40,
    "inception_v3": 95,
    "convnext_tiny": 40,
}
CASES = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
SIZES = {"inception_v3": 96, "alexnet": 224, "vgg11_bn": 224}


def exported(models: ModuleType, name: str, path: Path) -> Path:
    """A network with fresh weights, its batch norms' statistics away from zeros and ones, as PyTorch writes it."""
    torch.manual_seed(0)
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    module = getattr(models, name)(**extra).eval()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.2, 0.2)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    size = SIZES.get(name, 64)
    torch.onnx.export(
        module,
        (torch.zeros(1, 3, size, size),),
        str(path),
        dynamo=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_network_of_torchvision_is_imported(
    name: str, tmp_path: Path, torchvision_models: ModuleType, error_of: Callable[[Path, ImportReport], float]
) -> None:
    path = exported(torchvision_models, name, tmp_path / f"{name}.onnx")

    report = importing.import_onnx(path, tmp_path / "net")

    assert error_of(path, report) < 1e-4
    assert report.lines <= {**FAST, **SLOW}[name]
