"""Random rotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.affine import moved
from dlc.runtime.data.transforms.base import Transform
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Rotate(Transform):
    """Turns each image about its centre by an angle between -`angle` and `angle` degrees, all equally likely.

    Bilinear; what comes into view is 0 (black).
    """

    keyword: ClassVar[str] = "rotate"

    angle: float

    def __post_init__(self) -> None:
        if not 0 <= self.angle <= 180:
            raise ArgumentError("angle", f"must be between 0 and 180 degrees, not {self.angle}")

    def apply(self, images: np.ndarray, generators: np.random.Generator) -> np.ndarray:
        """[n, c, h, w] -> float32 of the same shape."""
        turn = np.deg2rad(generators.uniform(-self.angle, self.angle, size=len(images)))
        cosine, sine = np.cos(turn), np.sin(turn)
        matrix = np.stack([cosine, sine, -sine, cosine], axis=1).reshape(-1, 2, 2)
        return moved(images, matrix, np.zeros((len(images), 2)))
