"""Random shifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.transforms.base import Transform
from dlc.runtime.data.windows import windows
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Shift(Transform):
    """Moves each image by a whole number of pixels, up to `pixels` in each direction, all equally likely.

    What comes into view is 0 (black).
    """

    keyword: ClassVar[str] = "shift"

    pixels: int

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise ArgumentError("pixels", f"must be 0 or more, not {self.pixels}")

    def apply(self, images: np.ndarray, generators: np.random.Generator) -> np.ndarray:
        """[n, c, h, w] -> the same shape and type."""
        n, _, height, width = images.shape
        reach = self.pixels
        corners = generators.integers(0, 2 * reach + 1, size=(n, 2))
        framed = np.pad(images, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
        return windows(framed, corners, height, width)
