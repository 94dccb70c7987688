"""The peers' networks: plain PyTorch modules with the names and weights of the shipped specs, and their runtimes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn


class LeNet5(nn.Module):
    """LeNet-5 as it is built today; names as in specs/lenet5.dlspec."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c3 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.c5, self.f6, self.out = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.tanh(self.c1(x)))
        x = self.pool(torch.tanh(self.c3(x))).flatten(1)
        return self.out(torch.tanh(self.f6(torch.tanh(self.c5(x)))))


class Basic(nn.Module):
    """The residual block of two 3x3 convolutions; names as torchvision's."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        short = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + short)


class ResNet18(nn.Module):
    """ResNet-18; names as torchvision's and specs/resnet.dlspec."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for index, channels in enumerate((64, 128, 256, 512), start=1):
            blocks = [Basic(inputs, channels, 1 if index == 1 else 2), Basic(channels, channels, 1)]
            setattr(self, f"layer{index}", nn.Sequential(*blocks))
            inputs = channels
        self.fc = nn.Linear(512, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for index in range(1, 5):
            x = getattr(self, f"layer{index}")(x)
        return self.fc(x.mean((2, 3)))


def load(module: nn.Module, weights: Mapping[str, np.ndarray]) -> nn.Module:
    """The module with canonical weights; counters of batch norm, which only PyTorch has, stay as they are."""
    state = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
    missing, extra = module.load_state_dict(state, strict=False)
    assert not extra and all(name.endswith("num_batches_tracked") for name in missing), (missing, extra)
    return module


def forward_contenders(module: nn.Module, image: np.ndarray, threads: int) -> dict[str, Callable[[], np.ndarray]]:
    """PyTorch in both layouts, ONNX Runtime and OpenVINO on the same network, weights and input."""
    import onnxruntime
    import openvino

    torch.set_num_threads(threads)
    module = module.eval()
    x = torch.from_numpy(image)
    x_last, module_last = x.to(memory_format=torch.channels_last), module.to(memory_format=torch.channels_last)
    exported = io.BytesIO()
    torch.onnx.export(module, (x,), exported, dynamo=False, opset_version=18)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    ort = onnxruntime.InferenceSession(exported.getvalue(), options, providers=["CPUExecutionProvider"])
    name = ort.get_inputs()[0].name
    core = openvino.Core()
    exported.seek(0)
    config = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    vino = core.compile_model(core.read_model(exported), "CPU", config).create_infer_request()

    def with_torch(model: nn.Module, data: torch.Tensor) -> Callable[[], np.ndarray]:
        def call() -> np.ndarray:
            with torch.inference_mode():
                return model(data).numpy()

        return call

    return {
        "PyTorch": with_torch(module, x),
        "PyTorch channels last": with_torch(module_last, x_last),
        "ONNX Runtime": lambda: ort.run(None, {name: image})[0],
        "OpenVINO": lambda: vino.infer({0: image}, share_inputs=True, share_outputs=True)[0],
    }


def training_contenders(
    make: Callable[[], nn.Module], batch: Any, labels: Any, lr: float, momentum: float
) -> dict[str, Callable[[], float]]:
    """One SGD step with momentum in PyTorch: eager and compiled, both layouts."""
    x, y = torch.from_numpy(batch), torch.from_numpy(labels).long()

    def contender(layout: torch.memory_format, compiled: bool) -> Callable[[], float]:
        module = make().train().to(memory_format=layout)
        optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=momentum)
        data = x.to(memory_format=layout)
        forward = torch.compile(module) if compiled else module

        def step() -> float:
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(forward(data), y)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    return {
        "PyTorch eager": contender(torch.contiguous_format, False),
        "PyTorch eager, channels last": contender(torch.channels_last, False),
        "PyTorch compile": contender(torch.contiguous_format, True),
        "PyTorch compile, channels last": contender(torch.channels_last, True),
    }
