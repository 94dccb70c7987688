"""The networks of the benchmark, as dlc's specs name them, and the images and labels that everyone gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

HEAD = 0.3
"""What the loss at each of GoogLeNet's auxiliary outputs counts."""


@dataclass(frozen=True)
class Net:
    """A network: the shipped spec and the model in it, its input's shape and classes.

    `dropless` is the model without dropout, where it has any; `heads` its outputs that only training has.
    """

    name: str
    spec: str
    model: str
    shape: tuple[int, int, int]
    classes: int
    dropless: str = ""
    heads: tuple[str, ...] = ()

    def images(self, batch: int) -> np.ndarray:
        """The same random images in every process."""
        return np.random.default_rng(0).standard_normal((batch, *self.shape), dtype=np.float32)

    def labels(self, batch: int) -> np.ndarray:
        """The same random labels in every process."""
        return np.random.default_rng(1).integers(0, self.classes, batch, dtype=np.int32)

    @property
    def path(self) -> Path:
        """The shipped spec file."""
        return Path(__file__).parent.parent / "specs" / f"{self.spec}.dlspec"


PHOTO = (3, 224, 224)

NETS = {
    "lenet5": Net("LeNet-5", "lenet5", "LeNet5", (1, 32, 32), 10),
    "alexnet": Net("AlexNet", "alexnet", "AlexNet", PHOTO, 1000, "AlexNet(drop=0.0)"),
    "vgg16": Net("VGG-16", "vgg", "VggD", PHOTO, 1000, "Vgg(counts=[2, 2, 3, 3, 3], drop=0.0)"),
    "googlenet": Net(
        "GoogLeNet", "googlenet", "GoogLeNet", PHOTO, 1000, "GoogLeNet(drop=0.0, head_drop=0.0)", ("aux1", "aux2")
    ),
    "resnet18": Net("ResNet-18", "resnet", "ResNet18", PHOTO, 1000),
    "resnet50": Net("ResNet-50", "resnet", "ResNet50", PHOTO, 1000),
    "resnet20": Net("CIFAR ResNet-20", "resnet_cifar", "ResNet20", (3, 32, 32), 10),
}
