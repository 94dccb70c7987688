"""Random rotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.transforms.base import Geometric, Places, Size
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Rotate(Geometric):
    """Turns each image about its centre by an angle between -`angle` and `angle` degrees, all equally likely.

    Bilinear; what comes into view is 0 (black).
    """

    keyword: ClassVar[str] = "rotate"

    angle: float

    def __post_init__(self) -> None:
        if not 0 <= self.angle <= 180:
            raise ArgumentError("angle", f"must be between 0 and 180 degrees, not {self.angle}")

    def places(self, draws: Draws, source: Size) -> Places:
        """One angle for each image."""
        turn = np.deg2rad(draws.uniform(-self.angle, self.angle)[:, 0])
        cosine, sine = np.cos(turn), np.sin(turn)
        matrix = np.stack([cosine, sine, -sine, cosine], axis=1).reshape(-1, 2, 2)
        return Places(matrix, np.zeros((len(draws), 2)))
