"""Evaluation over weights in other shapes than the step's: those of a fully convolutional network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlc.runtime.arrays import aligned_empty
from dlc.runtime.plan import WeightSpec
from dlc.runtime.training.parts import Runnable


@dataclass(frozen=True)
class Copy:
    """A weight that a step updates, `array` in the form that `given` says, and the same numbers as `taken` needs them."""

    given: WeightSpec
    array: np.ndarray
    taken: WeightSpec
    copied: np.ndarray

    def refresh(self) -> None:
        """Brings the copy up to date."""
        canonical = self.array if self.given.layout is None else self.given.layout.unpack(self.array)
        layout = self.taken.layout
        if layout is None:
            self.copied[...] = canonical.reshape(self.copied.shape)
        else:
            self.copied[...] = layout.pack(canonical.reshape(layout.canonical_shape))


def bind(
    given: Iterable[WeightSpec], arrays: Mapping[str, np.ndarray], taken: Iterable[WeightSpec]
) -> tuple[dict[str, np.ndarray], tuple[Copy, ...]]:
    """The arrays that a program with the weights `taken` reads, by name, and which of them are copies.

    `arrays` hold weights as `given` says, by name; those that both know in one form are shared.
    """
    known = {spec.name: spec for spec in given if spec.name in arrays}
    bound, copies = dict(arrays), []
    for spec in taken:
        held = known.get(spec.name, spec)
        if (held.shape, held.layout) == (spec.shape, spec.layout):
            continue
        copied = aligned_empty(spec.shape, spec.dtype)
        copies.append(Copy(held, arrays[spec.name], spec, copied))
        bound[spec.name] = copied
    return bound, tuple(copies)


class Reshaped:
    """An executor that reads copies of weights, brought up to date before every run. `fetch` brings the arrays up to date that
    they are made of, `push` lets the executor see the copies."""

    def __init__(
        self,
        inner: Runnable,
        copies: tuple[Copy, ...],
        fetch: Callable[[], None],
        push: Callable[[Iterable[np.ndarray]], None],
    ) -> None:
        self._inner, self._copies, self._fetch, self._push = inner, copies, fetch, push
        self.program = inner.program

    def run(self, inputs: Mapping[str, Any], outputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Runs the program once on the weights as they are now."""
        self._fetch()
        for copy in self._copies:
            copy.refresh()
        self._push([copy.copied for copy in self._copies])
        return self._inner.run(inputs, outputs)
