"""Up and down, again and again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.training.schedules.base import Duration, Position, Schedule
from dlc.runtime.training.schedules.checks import check_duration, check_rate


@dataclass(frozen=True)
class Cyclic(Schedule):
    """Rises in a straight line from the rate `low` to the base rate and falls back, over and over (Smith, 2017).

    The rise takes `rise`, the fall `fall` (as long as the rise if not said). With `form=triangular2` each cycle is half as
    high as the one before; with `form=exp_range` the height is multiplied by `gamma` at every step (torch's CyclicLR).
    """

    keyword: ClassVar[str] = "cyclic"

    low: float
    rise: Duration
    fall: Duration | None = None
    form: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: float = 1.0
    duration: Duration | None = None

    def __post_init__(self) -> None:
        check_rate("low", self.low)
        check_duration("rise", self.rise)
        check_duration("fall", self.fall)
        if not 0 < self.gamma <= 1:
            raise ArgumentError("gamma", f"must be above 0 and at most 1, not {self.gamma}")
        if self.gamma != 1 and self.form != "exp_range":
            raise ArgumentError("gamma", "is for `form=exp_range`")
        check_duration("duration", self.duration)

    def rate(self, base: float, position: Position) -> float:
        """`low + (base - low) · height · scale`, height a triangle of 0 to 1, scale 1, 2^-cycle or gamma^t."""
        up = self.rise.steps(position.steps_per_epoch)
        down = (self.fall or self.rise).steps(position.steps_per_epoch)
        cycle = math.floor(position.step / (up + down))
        place = position.step - cycle * (up + down)
        height = place / up if place <= up else (up + down - place) / down
        scale = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": self.gamma**position.step}[self.form]
        return self.low + (base - self.low) * height * scale
