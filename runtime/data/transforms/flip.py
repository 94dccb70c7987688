"""Random mirror images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.transforms.base import Transform
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Flip(Transform):
    """Mirrors each image with the chance `p`: left and right change places, or top and bottom with "vertical"."""

    keyword: ClassVar[str] = "flip"

    direction: Literal["horizontal", "vertical"] = "horizontal"
    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ArgumentError("p", f"must be between 0 and 1, not {self.p}; it is the chance to mirror")

    def apply(self, images: np.ndarray, generators: np.random.Generator) -> np.ndarray:
        """[n, c, h, w] -> the same shape and type."""
        chosen = (generators.random(len(images)) < self.p)[:, None, None, None]
        mirrored = images[..., ::-1] if self.direction == "horizontal" else images[..., ::-1, :]
        return np.where(chosen, mirrored, images)
