"""Cross-entropy, measured on the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.deferred import np
from dlc.runtime.training.metrics.base import Metric


@dataclass(frozen=True)
class CrossEntropy(Metric):
    """Minus the logarithm of the probability that softmax of the scores gives the label, in nats; no label smoothing."""

    keyword: ClassVar[str] = "cross_entropy"

    def total(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """`Σ log Σ exp(s - max s) - (s[label] - max s)`, in float64."""
        with np.errstate(invalid="ignore", over="ignore"):  # An infinite score makes a NaN, which training stops at.
            shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
            right = shifted[np.arange(len(labels)), labels]
            return float((np.log(np.exp(shifted).sum(axis=1)) - right).sum())
