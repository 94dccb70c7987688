"""Evaluation at one place of an image, at ten, or at all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from dlc.runtime.arrays import aligned_empty
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.softmax import softmax


def scored(scores: Callable[[np.ndarray], np.ndarray], images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """The scores of resized images [n, c, h, w], which `scores` gives for normalised float32 ones of the window's size, or in
    dense evaluation of the whole images'.

    With several views these are the logarithms of the mean of the views' probabilities (softmax), as in Krizhevsky et al. 2012:
    the same arg max, and cross-entropy of the mean.
    """
    rule = preprocessing if preprocessing.dense is None else preprocessing.resized(*preprocessing.dense)
    found = [
        np.asarray(scores(rule.normalize(view, aligned_empty((*view.shape[:2], *rule.window), "float32"))))
        for view in _views(images, preprocessing)
    ]
    if len(found) == 1:
        return found[0]
    mean: np.ndarray = np.maximum(np.mean([softmax(score) for score in found], axis=0), np.float32(1e-30))
    return np.asarray(np.log(mean))


def _views(images: np.ndarray, preprocessing: Preprocessing) -> Iterator[np.ndarray]:
    """The images themselves, whose middle the network sees; or four corners, the middle, and their mirror images; or in
    dense evaluation the whole images, and if wanted their mirror images."""
    if preprocessing.dense is not None:
        yield images
        if preprocessing.mirrored:
            yield images[..., ::-1]
        return
    if preprocessing.views == "one":
        yield images
        return
    height, width = preprocessing.window
    down, right = images.shape[2] - height, images.shape[3] - width
    for top, left in ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)):
        view = images[:, :, top : top + height, left : left + width]
        yield view
        yield view[..., ::-1]
