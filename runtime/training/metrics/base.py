"""What a metric is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Metric(ABC):
    """What scores and labels give: a number, averaged over samples. Fields are the arguments that the language accepts.

    One that is no number (`scalar` False) is measured at evaluation only, and nothing can monitor it.
    """

    keyword: ClassVar[str]
    scalar: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The name in logs and in `monitor=val.NAME`."""
        return self.keyword

    @abstractmethod
    def total(self, scores: np.ndarray, labels: np.ndarray) -> Any:
        """The sum over the samples of a batch, a number or an array. scores [n, classes], labels [n]."""

    def result(self, total: Any, count: int) -> Any:
        """What all batches' totals give for `count` samples: their mean."""
        return total / count


def larger_is_better(name: str) -> bool:
    """Whether a value of this name ("val.accuracy") is meant to grow; losses and errors are meant to fall."""
    return name.endswith("accuracy")
