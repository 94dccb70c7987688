"""Evaluation: metrics of a network over one part of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.data.sources.base import Split
from dlc.runtime.data.views import scored
from dlc.runtime.training.metrics.base import Metric


def evaluate(
    scores: Callable[[np.ndarray], np.ndarray],
    split: Split,
    preprocessing: Preprocessing,
    metrics: Sequence[Metric],
    *,
    loss: Metric | None = None,
    batch: int = 250,
) -> dict[str, Any]:
    """The result of each metric over all samples by its name, and of `loss` as "loss".

    `scores` turns normalised images float32 [n, c, h, w] into scores [n, classes]; it is called with `batch` images at a
    time, at the end with what is left. Images of `split` have the size that `preprocessing` resizes to.
    """
    measures = {metric.name: metric for metric in metrics}
    if loss is not None:
        measures = {"loss": loss, **measures}
    totals: dict[str, Any] = dict.fromkeys(measures, 0)
    count = len(split.labels)
    for start in range(0, count, batch):
        images, labels = split.images[start : start + batch], split.labels[start : start + batch]
        found = scored(scores, images, preprocessing)
        for name, measure in measures.items():
            totals[name] = totals[name] + measure.total(found, labels)
    return {name: measure.result(totals[name], count) for name, measure in measures.items()}
