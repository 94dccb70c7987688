"""Mixup: weighted means of two images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.mix import Mix
from dlc.runtime.data.transforms.base import Mixing
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Mixup(Mixing):
    """Mixes each image x with another, y, to `s x + (1 - s) y`, and their losses likewise (Zhang et al. 2018).

    s is drawn for each image from the distribution Beta(`alpha`, `alpha`).
    """

    keyword: ClassVar[str] = "mixup"

    alpha: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.alpha < math.inf:
            raise ArgumentError("alpha", f"must be above 0, not {self.alpha}")

    def mix(self, images: np.ndarray, labels: np.ndarray, draws: Draws) -> tuple[np.ndarray, Mix]:
        """With the next image of the batch."""
        share = beta(draws.uniform(0, 1)[:, 0], self.alpha).astype(np.float32)
        mixed = np.roll(images, -1, axis=0)
        mixed += (images - mixed) * share[:, None, None, None]
        return mixed, Mix(np.roll(labels, -1), share)


def beta(uniform: np.ndarray, alpha: float) -> np.ndarray:
    """The quantiles of Beta(alpha, alpha) at numbers between 0 and 1, which turns uniform numbers into ones of it."""
    shares, places = _quantiles(alpha)
    low = np.minimum(uniform, 1 - uniform)
    quantile = np.interp(low, shares, places) ** (1 / min(alpha, 1.0))
    return np.asarray(np.where(uniform < 0.5, quantile, 1 - quantile))


@cache
def _quantiles(alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """The lower half of the distribution: probabilities, and the quantiles raised to the power min(alpha, 1).

    The density `x^(alpha-1) (1-x)^(alpha-1)` is infinite at 0 for alpha < 1; in `t = x^alpha` it is smooth.
    """
    power = min(alpha, 1.0)
    t = np.linspace(0, 0.5**power, 16_385)
    x = t ** (1 / power)
    density = x ** (alpha - power) * (1 - x) ** (alpha - 1)
    total = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return total / total[-1] / 2, t
