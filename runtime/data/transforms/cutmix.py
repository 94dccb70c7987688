"""CutMix: a part of one image in place of the same part of another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.mix import Mix
from dlc.runtime.data.transforms.base import Mixing
from dlc.runtime.data.transforms.mixup import beta
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Cutmix(Mixing):
    """Puts a part of another image into each image; their losses count as their areas do (Yun et al. 2019).

    s is drawn for each image from Beta(`alpha`, `alpha`); the part has the image's proportions and 1 - s of its area, its
    middle is any place, all equally likely, and what hangs over the edge is lost; the loss counts what is there.
    """

    keyword: ClassVar[str] = "cutmix"

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < math.inf:
            raise ArgumentError("alpha", f"must be above 0, not {self.alpha}")

    def mix(self, images: np.ndarray, labels: np.ndarray, draws: Draws) -> tuple[np.ndarray, Mix]:
        """With the next image of the batch."""
        size = np.asarray(images.shape[2:])
        part = np.sqrt(1 - beta(draws.uniform(0, 1)[:, 0], self.alpha))[:, None] * size
        middle = np.floor(draws.uniform(0, 1, 2) * size)
        first = np.clip(np.floor(middle - part / 2), 0, size).astype(np.int64)
        last = np.clip(np.floor(middle + part / 2), 0, size).astype(np.int64)
        mixed = images.copy()
        for i, ((top, left), (bottom, right)) in enumerate(zip(first, last, strict=True)):
            mixed[i, :, top:bottom, left:right] = images[(i + 1) % len(images), :, top:bottom, left:right]
        share = 1 - (last - first).prod(axis=1) / size.prod()
        return mixed, Mix(np.roll(labels, -1), share.astype(np.float32))
