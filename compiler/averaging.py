"""Averages of the weights over training, which evaluation and the artifact take in the weights' place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError


@dataclass(frozen=True)
class Ema:
    """`ema(decay=0.999, ramp=false)`: an exponential moving average, Polyak and Juditsky 1992 with weights that fall.

    a = d a + (1-d) w after every step, w the new weight; a starts as the initial weight (torch's AveragedModel with
    get_ema_avg_fn, updated once before the first step). `ramp` keeps d at (1 + t) / (10 + t) or less, t the step from 1,
    so that the start is soon forgotten (TensorFlow's ExponentialMovingAverage with num_updates).
    Running statistics of norms are not averaged: they are averages already (torch's default too).
    """

    keyword: ClassVar[str] = "ema"
    decay: float = 0.999
    ramp: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ArgumentError("decay", f"must be between 0 and 1, not {self.decay:g}")


CATALOG: dict[str, type[Ema]] = {Ema.keyword: Ema}
"""The averages by name."""
