"""Polynomial decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.training.schedules.base import Duration, Per, Position, Schedule
from dlc.runtime.training.schedules.checks import check_duration, check_factor, check_rate


@dataclass(frozen=True)
class Polynomial(Schedule):
    """Falls from the base rate to the rate `to` along a power of the time left: a straight line with `power` 1.

    It takes all the time that is left, or `duration` (torch's PolynomialLR, Caffe's "poly").
    """

    keyword: ClassVar[str] = "polynomial"

    power: float = 1.0
    to: float = 0.0
    per: Per = "step"
    duration: Duration | None = None

    def __post_init__(self) -> None:
        check_factor("power", self.power)
        check_rate("to", self.to)
        check_duration("duration", self.duration)

    def rate(self, base: float, position: Position) -> float:
        """`to + (base - to) · (1 - t / T)^power`."""
        return float(self.to + (base - self.to) * (1 - position.share(self.per)) ** self.power)
