"""Down when things no longer get better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.training.metrics.base import larger_is_better
from dlc.runtime.training.schedules.base import Duration, Position, Schedule
from dlc.runtime.training.schedules.checks import check_duration, check_rate


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """Multiplies the rate by `factor` when `monitor` has not become better for more than `patience` epochs.

    Better means by more than the part `threshold` of the best value so far. After a reduction the next `cooldown` epochs
    do not count. The rate does not fall below `least`. Torch's ReduceLROnPlateau with its relative threshold; accuracies
    are to grow, all else to fall. What it does follows from the run's record, so a run that goes on does the same.
    """

    keyword: ClassVar[str] = "reduce_on_plateau"

    monitor: str = "val.loss"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    least: float = 0.0
    duration: Duration | None = None

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1:
            raise ArgumentError("factor", f"must be between 0 and 1, not {self.factor}")
        if self.patience < 0:
            raise ArgumentError("patience", f"must be 0 epochs or more, not {self.patience}")
        if not 0 <= self.threshold < 1:
            raise ArgumentError("threshold", f"must be at least 0 and below 1, not {self.threshold}")
        if self.cooldown < 0:
            raise ArgumentError("cooldown", f"must be 0 epochs or more, not {self.cooldown}")
        check_rate("least", self.least)
        check_duration("duration", self.duration)

    def rate(self, base: float, position: Position) -> float:
        """`max(base · factor^reductions, least)`."""
        rate = base
        for _ in range(self._reductions([epoch[self.monitor] for epoch in position.history])):
            rate = max(rate * self.factor, min(self.least, base))
        return rate

    def _reductions(self, values: list[float]) -> int:
        """How often the rate has been reduced after epochs with these values."""
        grows = larger_is_better(self.monitor)
        best: float | None = None
        bad = cooling = reductions = 0
        for value in values:
            edge = None if best is None else best * (1 + self.threshold if grows else 1 - self.threshold)
            if edge is None or (value > edge if grows else value < edge):
                best, bad = value, 0
            else:
                bad += 1
            if cooling:
                cooling, bad = cooling - 1, 0
            if bad > self.patience:
                reductions, cooling, bad = reductions + 1, self.cooldown, 0
        return reductions
