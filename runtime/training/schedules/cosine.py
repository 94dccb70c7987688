"""Half a cosine wave."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.training.schedules.base import Duration, Per, Position, Schedule
from dlc.runtime.training.schedules.checks import check_duration, check_rate


@dataclass(frozen=True)
class Cosine(Schedule):
    """Falls from the base rate to the rate `to` along half a cosine wave (Loshchilov and Hutter, SGDR, 2017, eq. 5).

    It takes all the time that is left, or `duration`. It changes at each step, or with `per=epoch` after each epoch.
    """

    keyword: ClassVar[str] = "cosine"

    to: float = 0.0
    per: Per = "step"
    duration: Duration | None = None

    def __post_init__(self) -> None:
        check_rate("to", self.to)
        check_duration("duration", self.duration)

    def rate(self, base: float, position: Position) -> float:
        """`to + (base - to) · (1 + cos(π t / T)) / 2`."""
        return self.to + (base - self.to) * (1 + math.cos(math.pi * position.share(self.per))) / 2
