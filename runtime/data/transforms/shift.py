"""Random shifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.transforms.base import Geometric, Places, Size, unmoved
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Shift(Geometric):
    """Moves each image by a whole number of pixels, up to `pixels` in each direction, all equally likely.

    What comes into view is 0 (black).
    """

    keyword: ClassVar[str] = "shift"

    pixels: int

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise ArgumentError("pixels", f"must be 0 or more, not {self.pixels}")

    def places(self, draws: Draws, source: Size) -> Places:
        """Two whole numbers for each image: down and to the right."""
        matrix, _ = unmoved(len(draws))
        return Places(matrix, draws.integers(-self.pixels, self.pixels, 2).astype(np.float64))
