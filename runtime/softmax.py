"""The softmax of scores on the host: what evaluation, reports and answers mean by probabilities."""

from __future__ import annotations

import numpy as np


def softmax(scores: np.ndarray) -> np.ndarray:
    """exp(s) / Σ exp(s) of each row of scores [n, classes], their largest taken off before."""
    shares: np.ndarray = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares
