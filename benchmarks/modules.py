"""The benchmark's networks as PyTorch modules, with the same names of weights as the specs, over the same weights.

torchvision's definitions are taken where it has the network; the others are written here.
"""

from __future__ import annotations

import functools
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from networks import Net
from torch import nn
from torch.nn import functional as F


@functools.cache
def torchvision_models() -> ModuleType:
    """torchvision's definitions. Its compiled operators do not load beside every build of torch, and no network here needs
    them: they are declared, so that the import finds them."""
    try:
        import torchvision.models as models
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
            library.define(f"{name}(Tensor x) -> Tensor")
            if not name.endswith("nms"):
                library.define(f"_{name}_backward(Tensor x) -> Tensor")
        import torchvision.models as models

        models.declared = library  # it keeps what it declares for as long as it lives
    return models


class LeNet5(nn.Module):
    """LeNet-5 as it is built today."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c3 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.c5, self.f6, self.out = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.tanh(self.c1(x)))
        x = self.pool(torch.tanh(self.c3(x))).flatten(1)
        return self.out(torch.tanh(self.f6(torch.tanh(self.c5(x)))))


class BasicA(nn.Module):
    """Two 3x3 convolutions and a shortcut without weights: every stride-th pixel, new channels zero."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.new = stride, channels - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        short = x
        if self.new:
            short = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + short)


class CifarResNet20(nn.Module):
    """The residual network of 20 layers for CIFAR-10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inputs = 16
        for index, channels in enumerate((16, 32, 64), start=1):
            blocks = []
            for i in range(3):
                blocks.append(BasicA(inputs, channels, 2 if i == 0 and index > 1 else 1))
                inputs = channels
            setattr(self, f"layer{index}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def make(net: Net, *, training: bool) -> nn.Module:
    """The module, its weights as they come. GoogLeNet has its auxiliary outputs in training only."""
    match net.model:
        case "LeNet5":
            return LeNet5()
        case "ResNet20":
            return CifarResNet20()
        case "GoogLeNet":
            googlenet: nn.Module = torchvision_models().googlenet(
                aux_logits=training, transform_input=False, init_weights=False
            )
            return googlenet
    name = {"VggD": "vgg16"}.get(net.model, net.model.lower())
    module: nn.Module = getattr(torchvision_models(), name)()
    return module


def load(net: Net, weights: Path, *, training: bool = False) -> nn.Module:
    """The PyTorch module over the weights of a safetensors file. Nothing is initialised in vain, nothing copied."""
    from safetensors.torch import load_file

    with torch.device("meta"):
        module = make(net, training=training)
    state = load_file(weights)
    missing, extra = module.load_state_dict(state, strict=False, assign=True)
    assert not extra and all(n.endswith("num_batches_tracked") for n in missing), (missing, extra)
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.num_batches_tracked = torch.tensor(0)
    return module.train(training)


def make_weights(net: Net, path: Path, *, training: bool = False) -> None:
    """Writes weights for dlc and for the peers: dlc's fresh ones; for inference with statistics of some random images."""
    from safetensors.numpy import save_file

    from dlc import api

    network = api.networks(net.path, model=net.model)[0]
    with torch.device("meta"):
        known = set(make(net, training=training).state_dict())
    save_file({n: a for n, a in api.fresh_weights(network).items() if n in known}, path)
    if training:
        return
    module = load(net, path)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.momentum = None  # the average of all that passes
        norm.train()
    images = np.random.default_rng(2).standard_normal((4, *net.shape), dtype=np.float32)
    with torch.no_grad():
        module(torch.from_numpy(images))
    state = {n: t.numpy().copy() for n, t in module.state_dict().items() if not n.endswith("num_batches_tracked")}
    save_file(state, path)
