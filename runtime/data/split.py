"""Splitting samples in two, each class in the same proportion, the same way every time."""

from __future__ import annotations

from dlc.runtime.data.streams import SPLIT, bits
from dlc.runtime.deferred import np


def stratified(labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the samples kept and of those split off, both ascending.

    `round(n * fraction)` samples are split off, of each class its share to within one sample. The choice depends on the
    labels alone, not on a run's seed, so that runs with different seeds are measured on the same samples.
    """
    order = np.lexsort((bits(SPLIT, 0, 0, 0, len(labels)), labels))
    # Walking through the samples class by class, one is taken whenever the rounded running total grows.
    total = np.rint(np.arange(len(labels) + 1) * fraction)
    chosen = np.zeros(len(labels), bool)
    chosen[order[np.diff(total) > 0]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
