"""What the curves say, in plain sentences: did it learn, is it over- or underfitted, where should it have ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dlc.pages.run import Run
from dlc.pages.scale import number

PATIENCE = 5
"""Epochs without progress after which early stopping is usually asked to end a run."""


def findings(run: Run) -> list[str]:
    """Sentences about a run, the most important first."""
    if not run.history:
        return ["No epoch was finished."]
    sentences = [_learning(run)]
    fit = _fit(run)
    if fit:
        sentences.append(fit)
    cut = _early_stopping(run)
    if cut:
        sentences.append(cut)
    return sentences


def smoothed(values: Sequence[float], width: int = 3) -> list[float]:
    """The running mean over the last `width` values: one epoch's luck does not count."""
    return [sum(values[max(0, i - width + 1) : i + 1]) / min(i + 1, width) for i in range(len(values))]


def _values(run: Run, measure: str) -> list[float]:
    return [float(r[measure]) for r in run.history if r.get(measure) is not None]


def _learning(run: Run) -> str:
    loss = _values(run, "train.loss")
    error = _values(run, "train.error")
    classes = len(run.evaluation.classes) if run.evaluation else len(run.recipe.get("classes") or ())
    if error and classes > 1 and error[-1] > 0.9 * (1 - 1 / classes):
        return (
            f"It did not learn: the training error ended at {number(error[-1], percent=True)}, where guessing among "
            f"{classes} classes gives {number(1 - 1 / classes, percent=True)}."
        )
    if len(loss) > 1 and loss[-1] > loss[0]:
        return (
            f"The training loss rose, from {number(loss[0])} to {number(loss[-1])}: the learning rate may be too high."
        )
    if len(loss) >= 8 and loss[-1] < 0.93 * loss[-4]:
        return f"The training loss was still falling at the end ({number(loss[-4])} to {number(loss[-1])} over the last three epochs): more epochs may help."
    if len(loss) > 1:
        return f"The training loss fell from {number(loss[0])} to {number(loss[-1])} and has levelled off."
    return f"After one epoch the training loss is {number(loss[0])}." if loss else "No training loss was measured."


def _fit(run: Run) -> str:
    """Over- and underfitting by the gap between training and validation (Goodfellow et al. 2016, chapter 5.2)."""
    pairs = [
        (float(r["train.error"]), float(r["val.error"]))
        for r in run.history
        if r.get("train.error") is not None and r.get("val.error") is not None
    ]
    if not pairs:
        return ""
    train, validation = (sum(p[i] for p in pairs[-3:]) / len(pairs[-3:]) for i in (0, 1))
    shown = f"training error {number(train, percent=True)}, validation error {number(validation, percent=True)}"
    gap = validation - train
    if gap > max(0.01, 0.5 * validation) and validation > 0.02:
        return f"It overfits ({shown}): more data, augmentation, dropout or a stronger regulariser would help more than a larger network."
    if train > 0.1 and gap < 0.25 * train:
        return f"It underfits ({shown}): the training error itself is high, so a larger network, a better rate or more epochs would help."
    if gap < -0.002:
        return (
            f"Validation is better than training ({shown}): augmentation, dropout or label smoothing make training "
            "harder than validation, and the weights improve while an epoch is averaged."
        )
    return f"It fits well ({shown}): the gap between the two is small."


def _early_stopping(run: Run) -> str:
    measure = "val.loss" if _values(run, "val.loss") else "val.error"
    values = _values(run, measure)
    if len(values) < 3:
        return ""
    best = min(range(len(values)), key=values.__getitem__)
    percent = measure.endswith("error")
    shown = number(values[best], percent=percent)
    stop = cut_epoch(values)
    if stop is None:
        return f"The best {measure} is {shown} in epoch {_epoch(run, measure, best)}; early stopping with a patience of {PATIENCE} epochs would not have ended the run before."
    return (
        f"The best {measure} is {shown} in epoch {_epoch(run, measure, best)}; early stopping with a patience of {PATIENCE} "
        f"epochs would have ended the run after epoch {_epoch(run, measure, stop)} and kept epoch "
        f"{_epoch(run, measure, min(range(stop + 1), key=values.__getitem__))}."
    )


def cut_epoch(values: Sequence[float], patience: int = PATIENCE) -> int | None:
    """The index of the epoch after which early stopping ends a run with these values; None where it runs to its end."""
    best, since = math.inf, 0
    for index, value in enumerate(values[:-1]):
        if value < best:
            best, since = value, 0
        else:
            since += 1
            if since >= patience:
                return index
    return None


def _epoch(run: Run, measure: str, index: int) -> int:
    having: list[Mapping[str, Any]] = [r for r in run.history if r.get(measure) is not None]
    return int(having[index]["epoch"])
