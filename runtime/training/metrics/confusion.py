"""Which classes are taken for which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.deferred import np
from dlc.runtime.training.metrics.base import Metric


@dataclass(frozen=True)
class Confusion(Metric):
    """The confusion matrix: row t, column a counts the samples of class t whose highest score is that of class a."""

    keyword: ClassVar[str] = "confusion"
    scalar: ClassVar[bool] = False

    def total(self, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The counts of a batch, int64 [classes, classes]."""
        classes = scores.shape[1]
        return np.bincount(labels * np.int64(classes) + scores.argmax(axis=1), minlength=classes**2).reshape(
            classes, classes
        )

    def result(self, total: np.ndarray, count: int) -> list[list[int]]:
        """The counts as lists."""
        counts: list[list[int]] = total.tolist()
        return counts
