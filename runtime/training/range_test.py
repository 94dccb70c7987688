"""The learning-rate range test: how the loss takes rates that grow from step to step.

Smith, "Cyclical learning rates for training neural networks", 2017, section 3.3, with rates that grow by the same factor at
every step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dlc.runtime.data.loader import Batch
from dlc.runtime.training.feed import Feed
from dlc.runtime.training.parts import Runnable

SMOOTHING = 0.9
"""How much of the running mean of the loss is kept at each step."""
DIVERGED = 4.0
"""The test ends when the smoothed loss is this many times its least."""


@dataclass(frozen=True)
class Point:
    """One step: its rate, its loss, and the running mean of the losses so far, without the bias of its start."""

    step: int
    rate: float
    loss: float
    smooth: float


@dataclass(frozen=True)
class Suggestion:
    """Rates that the test speaks for.

    `steepest` is where the smoothed loss falls fastest over the logarithm of the rate, `careful` a tenth of the rate with the
    least smoothed loss, which itself is too high already. None where the loss never fell.
    """

    steepest: float | None
    careful: float | None


def rates(low: float, high: float, steps: int) -> list[float]:
    """Rates from `low` to `high`, each by the same factor above the one before."""
    return [low * (high / low) ** (step / max(steps - 1, 1)) for step in range(steps)]


def range_test(
    step: Runnable, feed: Feed, batches: Iterable[Batch], tested: Sequence[float], bases: Sequence[float]
) -> list[Point]:
    """Makes a step with each of the rates, until the loss diverges. Changes the weights.

    `bases` are the optimizers' own rates: with several, their ratios to the first are kept.
    """
    points: list[Point] = []
    mean, least = 0.0, math.inf
    for number, (batch, rate) in enumerate(zip(batches, tested, strict=False)):
        own = [rate * base / bases[0] if bases[0] else rate for base in bases]
        loss = float(step.run(feed(batch, number, own))["train.loss"])
        if not math.isfinite(loss):
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smooth = mean / (1 - SMOOTHING ** (number + 1))
        points.append(Point(number, rate, loss, smooth))
        least = min(least, smooth)
        if smooth > DIVERGED * least:
            break
    return points


def suggest_rate(points: Sequence[Point]) -> Suggestion:
    """What the points of a test speak for."""
    if len(points) < 3:
        return Suggestion(None, None)
    bottom = min(range(len(points)), key=lambda i: points[i].smooth)
    if bottom == 0:
        return Suggestion(None, None)
    slopes = [
        (points[i + 1].smooth - points[i - 1].smooth) / math.log(points[i + 1].rate / points[i - 1].rate)
        for i in range(1, min(bottom + 1, len(points) - 1))
    ]
    steepest = min(range(len(slopes)), key=slopes.__getitem__) + 1 if slopes else bottom
    return Suggestion(points[steepest].rate, points[bottom].rate / 10)
