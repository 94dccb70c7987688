"""What a report needs to know of a trained network: its answers on the test part, its first filters, its layers' times."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from dlc.pages.run import Evaluation, LayerTime, Mistake
from dlc.runtime.data.prepare import Prepared
from dlc.runtime.data.views import scored
from dlc.runtime.executor import StepTime
from dlc.runtime.softmax import softmax

MISTAKES = 24
FILTERS = 64


def evaluate_run(
    scores: Callable[[np.ndarray], np.ndarray],
    data: Prepared,
    weights: Mapping[str, np.ndarray],
    profile: Callable[[], Sequence[StepTime]],
    *,
    batch: int,
    test: Mapping[str, float],
    best_epoch: int,
    step: int = 250,
) -> Evaluation:
    """`scores` turns normalised images float32 [n, c, h, w] into scores [n, classes]; `weights` are canonical, by name.

    `profile` measures a training step; it is called last, since it may change what `scores` depends on. One score alone
    speaks for the second of two classes where it is positive.
    """
    images, labels = data.test.images, data.test.labels
    found = [
        np.array(scored(scores, images[start : start + step], data.preprocessing))
        for start in range(0, len(labels), step)
    ]
    shares = probabilities(np.concatenate(found))
    answers = shares.argmax(axis=1)
    count = max(shares.shape[1], len(data.classes))
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (labels, answers), 1)
    names = [data.classes[i] if i < len(data.classes) else str(i) for i in range(count)]
    wrong = np.flatnonzero(answers != labels)
    wrong = wrong[np.argsort(-shares[wrong, answers[wrong]], kind="stable")][:MISTAKES]
    mistakes = [
        Mistake(int(i), int(labels[i]), int(answers[i]), float(shares[i, answers[i]]), picture(images[i]))
        for i in wrong
    ]
    of, filters = first_filters(weights)
    return Evaluation(
        names, confusion.tolist(), mistakes, filters, of, layer_times(profile()), batch, dict(test), best_epoch
    )


def probabilities(scores: np.ndarray) -> np.ndarray:
    """The softmax of each row of scores [n, classes]; of one score alone, its logistic function and the rest to 1."""
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    return softmax(scores)


def first_filters(weights: Mapping[str, np.ndarray]) -> tuple[str, list[str]]:
    """The name of the first convolution's weight and a picture of each of its kernels; nothing where kernels are 1x1.

    Kernels [o, i, kh, kw] over three channels are shown in colour, others as the mean over their input channels.
    """
    for name, array in weights.items():
        if array.ndim == 4 and min(array.shape[2:]) > 1:
            kernels = array if array.shape[1] in (1, 3) else array.mean(axis=1, keepdims=True)
            low, high = (f(kernels, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
            shown = (kernels - low) / np.maximum(high - low, 1e-12)
            return name, [picture(kernel) for kernel in shown[:FILTERS].astype(np.float32)]
    return "", []


def layer_times(profile: Sequence[StepTime]) -> list[LayerTime]:
    """Milliseconds by layer, in the order in which layers first run."""
    totals: dict[str, float] = {}
    for entry in profile:
        totals[entry.layer] = totals.get(entry.layer, 0.0) + entry.seconds * 1e3
    return [LayerTime(layer, round(ms, 4)) for layer, ms in totals.items()]


def picture(image: np.ndarray) -> str:
    """A data URI of an image [c, h, w], of bytes or of numbers from 0 to 1; channels beyond one or three are averaged."""
    if image.shape[0] not in (1, 3):
        image = image.mean(axis=0, keepdims=True).astype(image.dtype)
    values = image if image.dtype == np.uint8 else np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    shown = Image.fromarray(values[0] if values.shape[0] == 1 else values.transpose(1, 2, 0))
    file = io.BytesIO()
    shown.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
