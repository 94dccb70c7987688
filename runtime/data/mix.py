"""Labels of mixed images: what mixup and cutmix make of a batch's labels."""

from __future__ import annotations

from dataclasses import dataclass

from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Mix:
    """The second label of each image of a mixed batch, and how much of the first there is in it.

    Image i is `share[i]` of a sample with the batch's own label and `1 - share[i]` of one with `labels[i]`; its loss is
    `share[i] * loss(label of the batch) + (1 - share[i]) * loss(labels[i])`. `labels` is int32 [n], `share` float32 [n]
    between 0 and 1.
    """

    labels: np.ndarray
    share: np.ndarray
