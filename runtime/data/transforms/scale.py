"""Random zoom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.transforms.base import Geometric, Places, Size
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Scale(Geometric):
    """Enlarges or shrinks each image about its centre by a factor between `low` and `high`, all equally likely.

    `scale(0.9, 1.1)`: a factor above 1 enlarges. Height and width keep their ratio. Bilinear; what comes into view is 0.
    """

    keyword: ClassVar[str] = "scale"

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < math.inf:
            raise ArgumentError("low", f"must be above 0, not {self.low}")
        if not self.low <= self.high < math.inf:
            raise ArgumentError("high", f"must be at least `low`, {self.low}, not {self.high}")

    def places(self, draws: Draws, source: Size) -> Places:
        """One factor for each image."""
        factor = 1.0 / draws.uniform(self.low, self.high)
        return Places(factor[:, :, None] * np.eye(2), np.zeros((len(draws), 2)))
