"""How many samples are classified wrongly, or rightly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.deferred import np
from dlc.runtime.training.metrics.base import Metric


def rank(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes come before the right one, [n]: higher scores, and equal ones of a lower number.

    A sample with a NaN among its scores has the rank of the last class and one more: it is never right.
    """
    right = scores[np.arange(len(labels)), labels][:, None]
    before = np.arange(scores.shape[1]) < labels[:, None]
    count = ((scores > right) | ((scores == right) & before)).sum(axis=1)
    ranks: np.ndarray = np.where(np.isnan(scores).any(axis=1), scores.shape[1], count)
    return ranks


@dataclass(frozen=True)
class Error(Metric):
    """The part of the samples whose highest score is not the label's, 0 to 1."""

    keyword: ClassVar[str] = "error"

    def total(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """The number of samples classified wrongly."""
        return float(np.count_nonzero(rank(scores, labels) > 0))


@dataclass(frozen=True)
class Accuracy(Metric):
    """The part of the samples whose highest score is the label's, 0 to 1."""

    keyword: ClassVar[str] = "accuracy"

    def total(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """The number of samples classified rightly."""
        return float(np.count_nonzero(rank(scores, labels) == 0))


@dataclass(frozen=True)
class TopKError(Metric):
    """The part of the samples whose label is not among the `k` highest scores, 0 to 1. In logs: `top_5_error`."""

    keyword: ClassVar[str] = "top_k_error"

    k: int = 5

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ArgumentError("k", f"must be 1 or more, not {self.k}")

    @property
    def name(self) -> str:
        """The name with the number in it."""
        return f"top_{self.k}_error"

    def total(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """The number of samples whose label is not among the k highest scores."""
        return float(np.count_nonzero(rank(scores, labels) >= min(self.k, scores.shape[1])))
