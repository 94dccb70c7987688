"""A linear rise at the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.training.schedules.base import Duration, Position, Schedule
from dlc.runtime.training.schedules.checks import check_duration, check_rate


@dataclass(frozen=True)
class Warmup(Schedule):
    """Rises from the rate `from` to the base rate, by the same amount at each step (torch's LinearLR).

    The first step has the rate `from`; the first step after `duration` has the base rate.
    """

    keyword: ClassVar[str] = "warmup"

    duration: Duration | None
    from_: float = 0.0

    def __post_init__(self) -> None:
        check_duration("duration", self.duration)
        check_rate("from", self.from_)

    def rate(self, base: float, position: Position) -> float:
        """`from + (base - from) · t / T`."""
        return self.from_ + (base - self.from_) * position.share("step")
