"""Stairs: the rate changes by a factor at regular or given places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.training.schedules.base import Duration, Position, Schedule
from dlc.runtime.training.schedules.checks import check_duration, check_factor


@dataclass(frozen=True)
class Step(Schedule):
    """Multiplies the rate by `factor` after every `every` (torch's StepLR): `step(every=8 epochs, factor=0.96)`."""

    keyword: ClassVar[str] = "step"

    every: Duration
    factor: float = 0.1
    duration: Duration | None = None

    def __post_init__(self) -> None:
        check_duration("every", self.every)
        check_factor("factor", self.factor)
        check_duration("duration", self.duration)

    def rate(self, base: float, position: Position) -> float:
        """`base · factor^⌊t / every⌋`."""
        return float(base * self.factor ** (position.step // self.every.steps(position.steps_per_epoch)))


@dataclass(frozen=True)
class MultiStep(Schedule):
    """Multiplies the rate by `factor` at each of the places `at`, counted from the schedule's start (torch's MultiStepLR).

    `multi_step(at=[32000 steps, 48000 steps], factor=0.1)`.
    """

    keyword: ClassVar[str] = "multi_step"

    at: tuple[Duration, ...]
    factor: float = 0.1
    duration: Duration | None = None

    def __post_init__(self) -> None:
        if not self.at:
            raise ArgumentError("at", "must name at least one place")
        for place in self.at:
            check_duration("at", place)
        check_factor("factor", self.factor)
        check_duration("duration", self.duration)

    def rate(self, base: float, position: Position) -> float:
        """`base · factor^(places that are reached)`."""
        reached = sum(position.step >= place.steps(position.steps_per_epoch) for place in self.at)
        return float(base * self.factor**reached)
