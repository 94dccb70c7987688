"""Decay with the inverse of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.training.schedules.base import Duration, Per, Position, Schedule
from dlc.runtime.training.schedules.checks import check_duration, check_factor


@dataclass(frozen=True)
class Inverse(Schedule):
    """Divides the rate by `(1 + gamma · t)^power`, t in steps (Caffe's "inv"), or in epochs with `per=epoch`."""

    keyword: ClassVar[str] = "inverse"

    gamma: float
    power: float = 1.0
    per: Per = "step"
    duration: Duration | None = None

    def __post_init__(self) -> None:
        check_factor("gamma", self.gamma)
        check_factor("power", self.power)
        check_duration("duration", self.duration)

    def rate(self, base: float, position: Position) -> float:
        """`base · (1 + gamma · t)^(-power)`."""
        time = position.step if self.per == "step" else position.step // position.steps_per_epoch
        return float(base * (1 + self.gamma * time) ** -self.power)
