"""Random parts of images, brought to one size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.transforms.base import Geometric, Places, Size
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class RandomResizedCrop(Geometric):
    """Cuts a part of each image out and scales it to `size` x `size`: GoogLeNet's augmentation (Szegedy et al. 2015).

    Its area is a part of the image's between the two numbers of `area`, all equally likely, its width over its height
    between those of `ratio`, their logarithms equally likely; a side that would be longer than the image's is cut to it.
    Bilinear.
    """

    keyword: ClassVar[str] = "random_resized_crop"

    size: int
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ArgumentError("size", f"must be 1 or more, not {self.size}")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ArgumentError("area", f"is two parts of the whole, above 0 to 1, the smaller first, not {self.area}")
        if not 0 < self.ratio[0] <= self.ratio[1] < float("inf"):
            raise ArgumentError("ratio", f"is two numbers above 0, the smaller first, not {self.ratio}")

    def target(self, source: Size) -> Size:
        """`size` x `size`, whatever the source."""
        return self.size, self.size

    def places(self, draws: Draws, source: Size) -> Places:
        """An area, a ratio and a place for each image."""
        full = np.asarray(source, np.float64)
        area = draws.uniform(*self.area)[:, 0] * full[0] * full[1]
        ratio = np.exp(draws.uniform(np.log(self.ratio[0]), np.log(self.ratio[1])))[:, 0]
        part = np.stack([np.sqrt(area / ratio), np.sqrt(area * ratio)], axis=1)
        part = np.clip(np.rint(part), 1, full)
        corner = draws.uniform(0, 1, 2) * (full - part)
        return Places((part / self.size)[:, :, None] * np.eye(2), corner + part / 2 - full / 2)
