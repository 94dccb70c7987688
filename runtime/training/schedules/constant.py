"""A constant rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.training.schedules.base import Condition, Duration, Position, Schedule
from dlc.runtime.training.schedules.checks import check_duration, check_rate


@dataclass(frozen=True)
class Constant(Schedule):
    """The base rate, or `rate` where given: `constant(2 epochs, rate=5e-4) then constant(rate=2e-4)`.

    With a condition it lasts until that is the case: `constant(rate=0.01, until=train.error < 80%) then …`.
    """

    keyword: ClassVar[str] = "constant"

    duration: Duration | None = None
    rate_: float | None = None
    until: Condition | None = None

    def __post_init__(self) -> None:
        check_duration("duration", self.duration)
        if self.rate_ is not None:
            check_rate("rate", self.rate_)

    def rate(self, base: float, position: Position) -> float:
        """The same at every step."""
        return base if self.rate_ is None else self.rate_
