"""Random shear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.transforms.base import Geometric, Places, Size
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Shear(Geometric):
    """Slants each image: rows move sideways by tan(a) of their height over the centre, a between -`angle` and `angle` degrees.

    Italic type is a shear. Bilinear; what comes into view is 0 (black).
    """

    keyword: ClassVar[str] = "shear"

    angle: float

    def __post_init__(self) -> None:
        if not 0 <= self.angle < 90:
            raise ArgumentError("angle", f"must be at least 0 and below 90 degrees, not {self.angle}")

    def places(self, draws: Draws, source: Size) -> Places:
        """One angle for each image."""
        slant = np.tan(np.deg2rad(draws.uniform(-self.angle, self.angle)[:, 0]))
        matrix = np.broadcast_to(np.eye(2), (len(draws), 2, 2)).copy()
        matrix[:, 1, 0] = slant
        return Places(matrix, np.zeros((len(draws), 2)))
