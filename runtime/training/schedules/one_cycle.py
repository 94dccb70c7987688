"""One cycle: up, then far down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.training.schedules.base import Duration, Position, Schedule
from dlc.runtime.training.schedules.checks import check_duration, check_factor


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Rises to the base rate during the part `rise` of the time, then falls far below the start (Smith and Topin, 2018).

    It starts at base / `start`, ends at base / `start` / `end`, and follows half a cosine wave both ways, as torch's
    OneCycleLR. The momentum stays as it is.
    """

    keyword: ClassVar[str] = "one_cycle"

    rise: float = 0.3
    start: float = 25.0
    end: float = 1e4
    duration: Duration | None = None

    def __post_init__(self) -> None:
        if not 0 < self.rise < 1:
            raise ArgumentError("rise", f"must be between 0 and 1, not {self.rise}")
        check_factor("start", self.start)
        check_factor("end", self.end)
        check_duration("duration", self.duration)

    def rate(self, base: float, position: Position) -> float:
        """A cosine from base / start to base over `rise · T - 1` steps, and one down over the others."""
        low, last = base / self.start, max(position.length - 1, 1)
        top = min(max(self.rise * position.length - 1, 1e-9), last - 1e-9)
        if position.step <= top:
            return _wave(low, base, position.step / top)
        return _wave(base, low / self.end, min((position.step - top) / (last - top), 1.0))


def _wave(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
