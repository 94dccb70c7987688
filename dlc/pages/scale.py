"""Scales of charts: where the axis begins and ends, where its ticks are and how numbers are written at them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """A map from values to the unit interval, linear or logarithmic, with ticks at round numbers."""

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False
    percent: bool = False

    def place(self, value: float) -> float:
        """The place of a value between 0 and 1; values outside end up at the border."""
        if self.logarithmic:
            value, low, high = (math.log10(max(v, 1e-300)) for v in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def text(self, value: float) -> str:
        """A tick's number as people write it."""
        return number(value, percent=self.percent)


def number(value: float, *, percent: bool = False) -> str:
    """A number in a few characters: "0.25", "1.2e-05", "12,000"; a share as "2.5 %"."""
    if percent:
        return f"{value * 100:.4g} %"
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.3g}"
    return f"{value:.3g}" if abs(value) < 1e-3 else f"{value:.4g}"


def linear(values: Sequence[float], *, ticks: int = 5, percent: bool = False, from_zero: bool = False) -> Scale:
    """A linear scale that holds all finite values, with about `ticks` ticks at 1, 2 or 5 times a power of ten."""
    finite = [v for v in values if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if from_zero:
        low = min(low, 0.0)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        around = abs(high) * 0.5 or 1.0
        low, high = (0.0 if from_zero and low >= 0 else low - around), high + around
    step = _step((high - low) / ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    places = tuple(round(k * step, 12) if step > 1e-9 else k * step for k in range(first, last + 1))
    return Scale(places[0], places[-1], places, percent=percent)


def logarithmic(values: Sequence[float], *, percent: bool = False) -> Scale:
    """A logarithmic scale that holds all positive values, with ticks at powers of ten, or at 1, 2, 5 where they are few."""
    positive = [v for v in values if math.isfinite(v) and v > 0]
    if not positive:
        return Scale(0.1, 1.0, (0.1, 1.0), True, percent)
    low, high = math.log10(min(positive)), math.log10(max(positive))
    if high - low < 2:
        marks = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
        below = [m for m in marks if m <= min(positive) * (1 + 1e-9)]
        above = [m for m in marks if m >= max(positive) * (1 - 1e-9)]
        start = below[-1] if below else marks[0]
        end = above[0] if above else marks[-1]
        if start == end:
            start, end = start / 2, end * 2
        inside = tuple(m for m in marks if start <= m <= end)
        return Scale(start, end, inside, True, percent)
    first, last = math.floor(low + 1e-9), math.ceil(high - 1e-9)
    every = max(1, -(-(last - first) // 6))
    return Scale(10.0**first, 10.0**last, tuple(10.0**e for e in range(first, last + 1, every)), True, percent)


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
