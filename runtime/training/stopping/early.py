"""Early stopping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.training.metrics.base import larger_is_better
from dlc.runtime.training.stopping.base import Stopping


@dataclass(frozen=True)
class Early(Stopping):
    """Stops when `monitor` has not become better for `patience` epochs; better means by more than `min_delta`.

    `monitor` names a value of the log: train.loss, val.loss, or val. and a metric. Accuracies are to grow, all else to fall.
    """

    keyword: ClassVar[str] = "early"

    monitor: str = "val.loss"
    patience: int = 3
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ArgumentError("patience", f"must be 1 epoch or more, not {self.patience}")
        if not 0 <= self.min_delta < float("inf"):
            raise ArgumentError("min_delta", f"must be 0 or more, not {self.min_delta}")

    def stops(self, history: Sequence[Mapping[str, float]]) -> bool:
        """Whether the last `patience` epochs brought nothing better than those before them."""
        sign = -1.0 if larger_is_better(self.monitor) else 1.0
        best, since = float("inf"), 0
        for epoch in history:
            value = sign * epoch[self.monitor]
            best, since = (value, 0) if value < best - self.min_delta else (best, since + 1)
        return since >= self.patience
