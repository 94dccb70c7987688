"""Cutout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.statistics import statistics
from dlc.runtime.data.transforms.base import Recolouring
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Cutout(Recolouring):
    """Covers a square of `size` x `size` in each image with the training images' mean colour (DeVries and Taylor 2017).

    Its middle is any pixel, all equally likely, so it may hang over the edge. `p` is the chance that an image gets one.
    """

    keyword: ClassVar[str] = "cutout"

    size: int
    p: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ArgumentError("size", f"must be 1 or more, not {self.size}")
        if not 0 <= self.p <= 1:
            raise ArgumentError("p", f"must be between 0 and 1, not {self.p}; it is the chance to cut")

    def fitted(self, images: np.ndarray) -> Recolouring:
        """With the mean colour of the training images, 0 to 1."""
        return Cover(self.size, self.p, statistics(images)[0])

    def apply(self, images: np.ndarray, draws: Draws, white: float) -> np.ndarray:
        """Covers with black: the training images are not known."""
        return Cover(self.size, self.p, (0.0,) * images.shape[1]).apply(images, draws, white)


@dataclass(frozen=True)
class Cover(Recolouring):
    """`Cutout` with a colour, one number per channel, 0 to 1."""

    size: int
    p: float
    colour: tuple[float, ...]

    def apply(self, images: np.ndarray, draws: Draws, white: float) -> np.ndarray:
        """Covers one square in each chosen image, in place."""
        height, width = images.shape[2:]
        chosen = draws.uniform(0, 1)[:, 0] < self.p
        corners = np.floor(draws.uniform(0, 1, 2) * (height, width)).astype(np.int64) - self.size // 2
        colour = (np.asarray(self.colour, np.float32) * np.float32(white))[:, None, None]
        for image, (top, left), cut in zip(images, corners, chosen, strict=True):
            if cut:
                image[:, max(top, 0) : top + self.size, max(left, 0) : left + self.size] = colour
        return images
