"""Batches that go through a network in parts, so that it takes less memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import numpy as np

from dlc.runtime.plan import BATCH, Program, TensorSpec

DRAW = "train.draw"
"""The input that random numbers depend on besides the seed: the number of the pass."""


class Runnable(Protocol):
    """What training needs of an executor."""

    program: Program

    def run(self, inputs: Mapping[str, Any], outputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Runs the program once."""


class StepInParts:
    """One training step made of `count` passes over equal parts of its batch.

    `part` adds to the gradients, `last` does too and then updates the weights; both run on the same arrays. From outside
    this is the step of the whole batch: the loss is the mean over the parts, other outputs are those of all samples.
    """

    def __init__(self, part: Runnable, last: Runnable, count: int) -> None:
        self._part, self._last, self._count = part, last, count
        self.size = last.program.batch
        self._drawn = [DRAW in {spec.name for spec in run.program.inputs} for run in (part, last)]
        self._known = frozenset(spec.name for spec in part.program.inputs)
        self.program = msgspec.structs.replace(
            last.program,
            inputs=tuple(self._whole(spec) for spec in last.program.inputs if spec.name != DRAW),
            outputs=tuple(self._whole(spec) for spec in last.program.outputs),
            batch=self.size * count,
        )

    def run(self, inputs: Mapping[str, Any], outputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Makes all passes of one step; `outputs` is not used."""
        number = int(inputs["train.step"])
        results = []
        for index in range(self._count):
            last = index + 1 == self._count
            rows = slice(index * self.size, (index + 1) * self.size)
            given = {k: v[rows] if np.ndim(v) else v for k, v in inputs.items() if last or k in self._known}
            if self._drawn[last]:
                given[DRAW] = np.uint32((number * self._count + index) % 2**32)
            results.append((self._last if last else self._part).run(given))
        return {
            name: np.concatenate([r[name] for r in results]) if value.ndim else np.mean([r[name] for r in results])
            for name, value in results[0].items()
        }

    def _whole(self, spec: TensorSpec) -> TensorSpec:
        """An input or output with the samples of the whole batch."""
        if not spec.shape or spec.shape[0] not in (self.size, BATCH):
            return spec
        return msgspec.structs.replace(spec, shape=(self.size * self._count, *spec.shape[1:]))


class InChunks:
    """A program for any batch that gets at most `most` samples at a time; its outputs are those of all of them."""

    def __init__(self, inner: Runnable, most: int) -> None:
        self._inner, self._most = inner, most
        self.program = inner.program

    def run(self, inputs: Mapping[str, Any], outputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Runs the program as often as it takes; `outputs` is not used."""
        count = max(len(value) for value in inputs.values() if np.ndim(value))
        if count <= self._most:
            return self._inner.run(inputs)
        chunks = [slice(start, start + self._most) for start in range(0, count, self._most)]
        results = [self._inner.run({k: v[rows] if np.ndim(v) else v for k, v in inputs.items()}) for rows in chunks]
        return {name: np.concatenate([r[name] for r in results]) for name in results[0]}
