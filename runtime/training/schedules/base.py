"""What a learning-rate schedule is, and the durations it is written with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Per = Literal["step", "epoch"]
"""How often a smooth schedule changes the rate."""


@dataclass(frozen=True)
class Duration:
    """`1 epoch`, `500 steps`."""

    amount: float
    unit: Literal["epoch", "step"]

    def steps(self, steps_per_epoch: int) -> float:
        """The duration in steps; a part of an epoch may give a part of a step."""
        return self.amount * steps_per_epoch if self.unit == "epoch" else self.amount


@dataclass(frozen=True)
class Condition:
    """`train.error < 80%`: a value of the log is below or above a bound.

    Values of training are looked at after every step, their mean over the last `WINDOW` steps of the schedule; values of
    validation after every epoch.
    """

    monitor: str
    relation: Literal["<", ">"]
    bound: float

    def holds(self, value: float) -> bool:
        """Whether a value fulfils it."""
        return value < self.bound if self.relation == "<" else value > self.bound


WINDOW = 100
"""Steps over which a condition takes the mean of a value of training."""


@dataclass(frozen=True)
class Position:
    """Where training stands inside one schedule: `step` steps after its start; it lasts `length` steps in all.

    `history` holds a record for each epoch that ended since the schedule's start.
    """

    step: int
    length: int
    steps_per_epoch: int
    history: Sequence[Mapping[str, float]] = ()

    def done(self, per: Per) -> float:
        """Steps behind this one; with "epoch", only those of whole epochs, so that the rate keeps still inside an epoch."""
        if per == "epoch":
            return float(self.step - self.step % self.steps_per_epoch)
        return float(self.step)

    def share(self, per: Per) -> float:
        """The part of the schedule that is done, 0 to 1."""
        return min(self.done(per) / self.length, 1.0) if self.length else 1.0


@dataclass(frozen=True)
class Schedule(ABC):
    """The learning rate as a function of the step. Fields are the arguments that the language accepts.

    A field whose language name is a word of Python's carries an underscore behind it (`from_` is `from`). A field
    `duration`, where a schedule has one and it is given, lets another follow (`constant(2 epochs) then cosine`); so does a
    field `until`, a condition. A field `monitor` names a value of the log that the schedule looks at after every epoch.
    """

    keyword: ClassVar[str]

    @abstractmethod
    def rate(self, base: float, position: Position) -> float:
        """The learning rate for the step that comes next, given the optimizer's base rate."""

    def length(self, steps_per_epoch: int) -> float | None:
        """Steps after which the next schedule of a sequence takes over; None: lasts to the end of training."""
        duration: Duration | None = getattr(self, "duration", None)
        return None if duration is None else duration.steps(steps_per_epoch)

    def condition(self) -> Condition | None:
        """What has to be the case for the next schedule to take over, if that is not a matter of time."""
        until: Condition | None = getattr(self, "until", None)
        return until
