"""What a training run is given and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlc.runtime.data.transforms.base import Transform
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.training.metrics.base import Metric
from dlc.runtime.training.metrics.cross_entropy import CrossEntropy
from dlc.runtime.training.schedules.base import Duration, Schedule
from dlc.runtime.training.stopping.base import Stopping


@dataclass(frozen=True)
class TrainingOptions:
    """A recipe, as far as the loop needs it. Exactly one of `epochs` and `steps` is given.

    `rates` are the base learning rates, one for each optimizer group. `loss` is what "val.loss" means, measured on the
    host (None: no such value). `scores` names the output that metrics look at (None: the first). `recipe` is whatever
    should be kept in recipe.json; a run can only go on with an equal one. `resolved` is kept beside it. Every `watch`, statistics of all layers are written
    to layers.jsonl. The resume file is written after each epoch,
    and in between every `save_seconds` and, where given, every `save_steps`.
    """

    batch: int
    rates: tuple[float, ...]
    epochs: float | None = None
    steps: int | None = None
    schedules: tuple[Schedule, ...] = ()
    metrics: tuple[Metric, ...] = ()
    loss: Metric | None = field(default_factory=CrossEntropy)
    stop: Stopping | None = None
    augment: tuple[Transform, ...] = ()
    seed: int = 0
    scores: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    resolved: Mapping[str, Any] = field(default_factory=dict)
    watch: Duration | None = None
    save_seconds: float = 20.0
    save_steps: int | None = None


@dataclass(frozen=True)
class TrainingResult:
    """How training ended. `test` holds "loss", "error" and the recipe's metrics of the best weights on the test part.

    `epochs` counts the epochs made, `seconds` the time they took, over all sessions of the run.
    """

    test: Mapping[str, float]
    epochs: int
    steps: int
    seconds: float
    best_epoch: int
    history: tuple[Mapping[str, float], ...]
    out: Path


class Interrupted(RuntimeFault):
    """Training was stopped by a signal after everything was saved. `signal` is its number."""

    def __init__(self, step: int, out: Path, signal: int) -> None:
        super().__init__(
            "R0424",
            f"stopped after step {step}; everything is saved in {out}",
            help="go on with the same command and --resume",
        )
        self.signal = signal
        self.status = 128 + signal  # as of a process that the signal ended: 130 for Ctrl-C


def total_steps(options: TrainingOptions, steps_per_epoch: int) -> int:
    """The steps of the whole run. Raises RuntimeFault (R0427) where there are none, or where they are given twice."""
    if (options.epochs is None) == (options.steps is None):
        raise RuntimeFault("R0427", "a recipe gives `epochs` or `steps`, one of them")
    total = options.steps if options.epochs is None else round(options.epochs * steps_per_epoch)
    if total is None or total < 1:
        raise RuntimeFault("R0427", "there is not a single step to train", help="make `epochs` or `steps` larger")
    return total
