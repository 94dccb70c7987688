"""The networks that torchvision lacks, held against PyTorch modules written from their papers, with the specs' names."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

C3_TABLE = [
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
]  # fmt: skip


def squash(x: torch.Tensor) -> torch.Tensor:
    return 1.7159 * torch.tanh(2 / 3 * x)


class Weights(nn.Module):
    """Parameters of a layer that PyTorch lacks."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(0.2 * torch.randn(shape)))


class LeNet5Of1998(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.s2 = Weights(weight=(6,), bias=(6,))
        self.c3 = nn.Module()
        self.c3.conv_connect_1 = Weights(weight=(60, 5, 5), bias=(16,))
        self.s4 = Weights(weight=(16,), bias=(16,))
        self.c5, self.f6 = nn.Linear(400, 120), nn.Linear(120, 84)
        self.out = nn.Module()
        self.out.register_buffer("weight", torch.randint(2, (10, 84)) * 2.0 - 1)

    def subsample(self, x: torch.Tensor, part: Weights) -> torch.Tensor:
        return F.avg_pool2d(x, 2) * 4 * part.weight[:, None, None] + part.bias[:, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = squash(self.subsample(squash(self.c1(x)), self.s2))
        c3 = self.c3.conv_connect_1
        kernels = iter(c3.weight)
        maps = [
            sum(F.conv2d(x[:, i : i + 1], next(kernels)[None, None]) for i in row) + bias
            for row, bias in zip(C3_TABLE, c3.bias, strict=True)
        ]
        x = squash(self.subsample(squash(torch.cat(maps, 1)), self.s4)).flatten(1)
        x = squash(self.f6(squash(self.c5(x))))
        return -(x[:, None] - self.out.weight).square().sum(2)


class LeNet5(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c3 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.c5, self.f6, self.out = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.c1, self.c3):
            x = F.avg_pool2d(torch.tanh(layer(x)), 2)
        return self.out(torch.tanh(self.f6(torch.tanh(self.c5(x.flatten(1))))))


class AlexNetOf2012(nn.Module):
    def __init__(self, pixels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 96, 11, 4), nn.Conv2d(96, 256, 5, 1, 2, groups=2)
        self.conv3, self.conv4 = nn.Conv2d(256, 384, 3, 1, 1), nn.Conv2d(384, 384, 3, 1, 1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, 1, 1, groups=2)
        self.fc6, self.fc7, self.fc8 = nn.Linear(256 * pixels, 4096), nn.Linear(4096, 4096), nn.Linear(4096, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in (self.conv1, self.conv2):  # alpha 1e-4 for each of five neighbours, which PyTorch divides by five
            x = F.max_pool2d(F.local_response_norm(conv(x).relu(), 5, 5e-4, 0.75, 2.0), 3, 2)
        x = F.max_pool2d(self.conv5(self.conv4(self.conv3(x).relu()).relu()).relu(), 3, 2).flatten(1)
        return self.fc8(self.fc7(self.fc6(x).relu()).relu())


class Vgg(nn.Module):
    def __init__(self, plan: list[Any]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for item in plan:
            if isinstance(item, nn.Module):
                layers.append(item)
                continue
            out, kernel = item
            layers += [nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.ReLU()]
            channels = out
        self.features = nn.Sequential(*layers)
        ends = [nn.Linear(25088, 16), nn.Linear(16, 16), nn.Linear(16, 10)]
        self.classifier = nn.Sequential(ends[0], nn.ReLU(), nn.Identity(), ends[1], nn.ReLU(), nn.Identity(), ends[2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 7).flatten(1))


def vgg_c() -> Vgg:
    plan: list[Any] = []
    for channels, count in zip([64, 128, 256, 512, 512], [2, 2, 3, 3, 3], strict=True):
        plan += [(channels, 1 if i == 2 else 3) for i in range(count)] + [nn.MaxPool2d(2)]
    return Vgg(plan)


def vgg_a_lrn() -> Vgg:
    plan: list[Any] = []
    for channels, count in zip([64, 128, 256, 512, 512], [1, 1, 2, 2, 2], strict=True):
        plan += [(channels, 3)] * count + [nn.MaxPool2d(2)]
    return Vgg([plan[0], nn.LocalResponseNorm(5), *plan[1:]])


class Unit(nn.Module):
    def __init__(self, *arguments: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(*arguments)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).relu()


class Inception(nn.Module):
    def __init__(self, channels: int, c1: int, r3: int, c3: int, r5: int, c5: int, proj: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, c1, 1)
        self.conv_2, self.conv_3 = nn.Conv2d(channels, r3, 1), nn.Conv2d(r3, c3, 3, padding=1)
        self.conv_4, self.conv_5 = nn.Conv2d(channels, r5, 1), nn.Conv2d(r5, c5, 5, padding=2)
        self.conv_6 = nn.Conv2d(channels, proj, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        three, five = self.conv_3(self.conv_2(x).relu()), self.conv_5(self.conv_4(x).relu())
        return torch.cat([self.conv_1(x), three, five, self.conv_6(F.max_pool2d(x, 3, 1, 1))], 1).relu()


class Head(nn.Module):
    def __init__(self, channels: int, pixels: int) -> None:
        super().__init__()
        self.conv, self.fc1, self.fc2 = Unit(channels, 128, 1), nn.Linear(128 * pixels, 1024), nn.Linear(1024, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(self.conv(F.avg_pool2d(x, 5, 3)).flatten(1)).relu())


class GoogLeNetOf2014(nn.Module):
    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = Unit(3, 64, 7, 2, 3), Unit(64, 64, 1), Unit(64, 192, 3, 1, 1)
        table = {
            "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64),
            "4a": (480, 192, 96, 208, 16, 48, 64), "4b": (512, 160, 112, 224, 24, 64, 64),
            "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
            "4e": (528, 256, 160, 320, 32, 128, 128), "5a": (832, 256, 160, 320, 32, 128, 128),
            "5b": (832, 384, 192, 384, 48, 128, 128),
        }  # fmt: skip
        for name, sizes in table.items():
            self.add_module(f"inception{name}", Inception(*sizes))
        self.aux1, self.aux2, self.fc = Head(512, pixels), Head(528, pixels), nn.Linear(1024, 10)

    def forward(self, x: torch.Tensor) -> Any:
        def pool(x: torch.Tensor) -> torch.Tensor:
            return F.max_pool2d(x, 3, 2, ceil_mode=True)

        x = self.conv3(self.conv2(F.local_response_norm(pool(self.conv1(x)), 5)))
        x = self.inception3b(self.inception3a(pool(F.local_response_norm(x, 5))))
        a = self.inception4a(pool(x))
        d = self.inception4d(self.inception4c(self.inception4b(a)))
        x = self.inception5b(self.inception5a(pool(self.inception4e(d))))
        logits = self.fc(x.mean((2, 3)))
        return (
            SimpleNamespace(logits=logits, aux_logits1=self.aux1(a), aux_logits2=self.aux2(d))
            if self.training
            else logits
        )


class Block(nn.Module):
    """A residual block; `stride_at` is the convolution with the stride, `shortcut` "A" (zeros), "B" (weights) or ""."""

    def __init__(self, inputs: int, sizes: list[tuple[int, int]], stride: int, stride_at: int, shortcut: str) -> None:
        super().__init__()
        self.count, self.shortcut, self.stride, channels = len(sizes), shortcut, stride, inputs
        for i, (out, kernel) in enumerate(sizes):
            step = stride if i == stride_at else 1
            self.add_module(f"conv{i + 1}", nn.Conv2d(channels, out, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(out))
            channels = out
        if shortcut == "B" and (stride > 1 or channels != inputs):
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y.relu() if i < self.count else y
        if self.shortcut == "A":
            x = x[:, :, :: self.stride, :: self.stride]
            y = y + F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        elif self.shortcut == "B":
            y = y + (self.downsample(x) if hasattr(self, "downsample") else x)
        return y.relu()


class ResNet(nn.Module):
    def __init__(self, widths: list[int], depths: list[int], shortcut: str, *, deep: bool = False) -> None:
        super().__init__()
        cifar, channels = len(widths) == 3, widths[0]
        self.conv1 = nn.Conv2d(3, channels, 3 if cifar else 7, 1 if cifar else 2, 1 if cifar else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, 1)
        self.layers = len(widths)
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = []
            for j in range(depth):
                sizes = [(width, 1), (width, 3), (4 * width, 1)] if deep else [(width, 3), (width, 3)]
                blocks.append(Block(channels, sizes, 2 if i > 0 and j == 0 else 1, 0, shortcut))
                channels = sizes[-1][0]
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.bn1(self.conv1(x)).relu())
        for i in range(self.layers):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


WIDE, THIN = [64, 128, 256, 512], [16, 32, 64]
Case = tuple[str, Callable[[], nn.Module]]
NETWORKS: dict[str, Case] = {
    "lenet5_1998": ("lenet5_1998.LeNet5", LeNet5Of1998),
    "lenet5": ("lenet5.LeNet5", LeNet5),
    "alexnet_2012": ("alexnet.AlexNetOf2012(classes=10, size=67, drop=0.0)", AlexNetOf2012),
    "vgg_a_lrn": (
        "vgg.Vgg([1, 1, 2, 2, 2], g => [relu, local_response_norm] if g == 0 else [relu], drop=0.0, classes=10, size=32, hidden=16)",
        vgg_a_lrn,
    ),
    "vgg_c": ("vgg.Vgg([2, 2, 3, 3, 3], third=1, drop=0.0, classes=10, size=32, hidden=16)", vgg_c),
    "googlenet_2014": (
        "googlenet.GoogLeNetOf2014(classes=10, size=112, drop=0.0, head_drop=0.0)",
        lambda: GoogLeNetOf2014(1),
    ),
    "resnet18_a": ("resnet.ResNet(BasicA, [2, 2, 2, 2], classes=10, size=32)", lambda: ResNet(WIDE, [2, 2, 2, 2], "A")),
    "plain18": ("resnet.ResNet(Plain, [2, 2, 2, 2], classes=10, size=32)", lambda: ResNet(WIDE, [2, 2, 2, 2], "")),
    "resnet50_2015": (
        "resnet.ResNet(Bottleneck2015, [3, 4, 6, 3], classes=10, size=32)",
        lambda: ResNet(WIDE, [3, 4, 6, 3], "B", deep=True),
    ),
    "cifar_resnet20": ("resnet_cifar.ResNet20", lambda: ResNet(THIN, [3, 3, 3], "A")),
    "cifar_resnet110": ("resnet_cifar.ResNet110", lambda: ResNet(THIN, [18, 18, 18], "A")),
    "cifar_plain20": ("resnet_cifar.Plain20", lambda: ResNet(THIN, [3, 3, 3], "")),
}
COMPILED = ["lenet5_1998", "lenet5", "alexnet_2012", "cifar_resnet20"]
"""Of them the compiled step, too, is compared in every run; of all with `-m slow`."""


@pytest.fixture
def pair(twins: Any) -> Callable[[str], Any]:
    def build(name: str) -> Any:
        torch.manual_seed(0)
        expression, make = NETWORKS[name]
        return twins(expression, make())

    return build


def worst(errors: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(errors.items(), key=lambda item: item[1])[-5:]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in ("plain18", "cifar_resnet110") else []) for n in NETWORKS]
)
def test_a_step_by_the_reference_rules_is_the_modules(name: str, pair: Any) -> None:
    errors = pair(name).exact_step_errors()

    assert max(errors.values()) < 1e-5, worst(errors)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in COMPILED else pytest.mark.slow) for n in NETWORKS])
def test_a_compiled_network_gives_the_modules_answers(name: str, pair: Any) -> None:
    assert pair(name).inference_error() < 1e-4


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in COMPILED else pytest.mark.slow) for n in NETWORKS])
def test_a_compiled_step_is_the_modules(name: str, pair: Any) -> None:
    assert not pair(name).step_excess(loss=1e-4, statistics=1e-4, gradients=1e-3)
