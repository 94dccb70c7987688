"""What a learning-rate schedule is, and the durations it is written with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Duration:
    """`1 epoch`, `500 steps`."""

    amount: float
    unit: Literal["epoch", "step"]

    def steps(self, steps_per_epoch: int) -> float:
        return self.amount * steps_per_epoch if self.unit == "epoch" else self.amount


@dataclass(frozen=True)
class Position:
    """Where training stands inside one schedule: `step` steps after its start; it lasts `length` steps in all."""

    step: int
    length: int
    steps_per_epoch: int


@dataclass(frozen=True)
class Schedule(ABC):
    """A factor on the base learning rate as a function of the step. Fields are the arguments that the language accepts."""

    keyword: ClassVar[str]

    @abstractmethod
    def rate(self, base: float, position: Position) -> float:
        """The learning rate for the step that comes next, given the optimizer's base rate."""

    def length(self, steps_per_epoch: int) -> float | None:
        """Steps after which the next schedule of a sequence takes over; None: lasts to the end of training."""
        return None
