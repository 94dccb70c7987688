"""Random mirror images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.transforms.base import Geometric, Places, Size, unmoved
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Flip(Geometric):
    """Mirrors each image with the chance `p`: left and right change places, or top and bottom with "vertical"."""

    keyword: ClassVar[str] = "flip"

    direction: Literal["horizontal", "vertical"] = "horizontal"
    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ArgumentError("p", f"must be between 0 and 1, not {self.p}; it is the chance to mirror")

    def places(self, draws: Draws, source: Size) -> Places:
        """-1 in the matrix of each image that is mirrored."""
        matrix, translation = unmoved(len(draws))
        matrix = matrix.copy()
        axis = 1 if self.direction == "horizontal" else 0
        matrix[:, axis, axis] = np.where(draws.uniform(0, 1)[:, 0] < self.p, -1.0, 1.0)
        return Places(matrix, translation)
