"""What a metric is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Metric(ABC):
    """A number from scores and labels, averaged over samples. Fields are the arguments that the language accepts."""

    keyword: ClassVar[str]

    @property
    def name(self) -> str:
        """The name in logs and in `monitor=val.NAME`."""
        return self.keyword

    @abstractmethod
    def total(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """The sum over the samples of a batch (divided by their number at the end). scores [n, classes], labels [n]."""


def larger_is_better(name: str) -> bool:
    """Whether a value of this name ("val.accuracy") is meant to grow; losses and errors are meant to fall."""
    return name.endswith("accuracy")
