"""Random crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.transforms.base import Transform
from dlc.runtime.data.windows import windows
from dlc.runtime.deferred import np
from dlc.runtime.errors import RuntimeFault


@dataclass(frozen=True)
class Crop(Transform):
    """Cuts a window of `size` x `size` at a random place out of each image, after `pad` zeros on every side.

    `crop(32, pad=4)` on 32x32 images is CIFAR's augmentation. The window must have the size that the network takes: a
    crop does not change the size of an image, so `size` is the images' own; larger or smaller ones are a fault.
    """

    keyword: ClassVar[str] = "crop"

    size: int
    pad: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ArgumentError("size", f"must be 1 or more, not {self.size}")
        if self.pad < 0:
            raise ArgumentError("pad", f"must be 0 or more, not {self.pad}")

    def apply(self, images: np.ndarray, generators: np.random.Generator) -> np.ndarray:
        """[n, c, h, w] -> [n, c, h, w]. Raises RuntimeFault where `size` is not the images' size."""
        n, _, height, width = images.shape
        if (height, width) != (self.size, self.size):
            raise RuntimeFault(
                "R0320",
                f"crop({self.size}) would turn images of {height}x{width} into {self.size}x{self.size}",
                help=f"the network sees {height}x{width}: write crop({height}, pad=…)" if height == width else "",
            )
        corners = generators.integers(0, 2 * self.pad + 1, size=(n, 2))
        framed = np.pad(images, ((0, 0), (0, 0), (self.pad, self.pad), (self.pad, self.pad)))
        return windows(framed, corners, height, width)
