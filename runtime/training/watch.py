"""What goes through a training step, as numbers: scales of values and gradients, and where they stop being finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dlc.runtime.training.parts import DRAW, Runnable

NAMES = {"value": "activation", "gradient": "activation_gradient", "weight": "weight", "weight_gradient": "gradient"}
"""What the log calls the kinds of tensors."""


class Watched(Protocol):
    """One tensor of a step: a layer's "value", a "weight", the "gradient" or the "weight_gradient" of the loss by either."""

    @property
    def kind(self) -> str:
        """Which of the four."""

    @property
    def name(self) -> str:
        """The layer's or the weight's name."""

    @property
    def size(self) -> int:
        """How many elements it has."""

    @property
    def place(self) -> str:
        """Where in the spec it comes from."""

    @property
    def key(self) -> str:
        """What the names of its statistics start with."""


@dataclass(frozen=True)
class Finding:
    """The first tensor of a step, in the order of computing, that is not finite."""

    kind: str
    name: str
    place: str

    def __str__(self) -> str:
        what = {
            "weight": "the weight", "value": "the values of", "gradient": "the gradient by the values of",
            "weight_gradient": "the gradient of the weight",
        }[self.kind]  # fmt: skip
        return f"{what} {self.name}" + (f" ({self.place})" if self.place else "")


class Watch:
    """Measures steps without making them. `run` computes statistics of the tensors `watched` on `batch` samples, which are
    the first of a step's where that has more."""

    def __init__(self, run: Runnable, watched: Sequence[Watched], count: int = 1) -> None:
        self._run, self._watched, self._count = run, watched, count
        self._names = frozenset(spec.name for spec in run.program.inputs)

    def scales(self, inputs: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """Mean, standard deviation, norm and share of zeros: {"activation.mean": {"c1": …}, "gradient.norm": {"c1.weight": …}}.

        "activation" and "activation_gradient" are by layer, "weight" and "gradient" by weight.
        """
        found = self._statistics(inputs)
        record: dict[str, dict[str, float]] = {}
        for w in self._watched:
            total, squares, nonzero = (float(found[f"{w.key} {name}"]) for name in ("sum", "squares", "nonzero"))
            mean = total / w.size
            measures = {
                "mean": mean,
                "std": math.sqrt(max(squares / w.size - mean * mean, 0.0)),
                "norm": math.sqrt(squares),
                "zeros": 1.0 - nonzero / w.size,
            }
            for name, value in measures.items():
                record.setdefault(f"{NAMES[w.kind]}.{name}", {})[w.name] = value
        return record

    def first_not_finite(self, inputs: Mapping[str, Any]) -> Finding | None:
        """The first tensor that holds a NaN or an infinity; None where all are finite."""
        found = self._statistics(inputs)
        for w in self._watched:
            if float(found[f"{w.key} broken"]) > 0:
                return Finding(w.kind, w.name, w.place)
        return None

    def _statistics(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        size = self._run.program.batch
        given = {k: v[:size] if np.ndim(v) else v for k, v in inputs.items() if k in self._names}
        if DRAW in self._names:
            given[DRAW] = np.uint32(int(inputs["train.step"]) * self._count % 2**32)
        return self._run.run(given)
