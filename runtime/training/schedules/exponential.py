"""Exponential decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.training.schedules.base import Duration, Per, Position, Schedule
from dlc.runtime.training.schedules.checks import check_duration, check_factor

EPOCH = Duration(1, "epoch")


@dataclass(frozen=True)
class Exponential(Schedule):
    """Multiplies the rate by `factor` over each epoch (or each `every`).

    It changes at the end of each epoch, as torch's ExponentialLR; with `per=step` it falls smoothly.
    """

    keyword: ClassVar[str] = "exponential"

    factor: float
    every: Duration = EPOCH
    per: Per = "epoch"
    duration: Duration | None = None

    def __post_init__(self) -> None:
        check_factor("factor", self.factor)
        check_duration("every", self.every)
        check_duration("duration", self.duration)

    def rate(self, base: float, position: Position) -> float:
        """`base · factor^(t / every)`."""
        return float(base * self.factor ** (position.done(self.per) / self.every.steps(position.steps_per_epoch)))
