"""Kernels side by side: the arrays that they are called with, and which of two is faster on a machine that others use too.

A kernel's weights lie in memory several times, as many copies as the whole network's weights take, and each call reads the next:
so they come from where they come from in the network, from memory where the network is large, from a cache where it is small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from time import perf_counter
from typing import Any

import numpy as np

from dlc.compiler.codegen.emit import Call
from dlc.compiler.ir import Constant, N, Parameter, Value
from dlc.compiler.ops.winograd import WinogradWeights
from dlc.compiler.passes.fuse import root
from dlc.runtime.arrays import aligned_copy, element_type
from dlc.runtime.library import load_runtime

Kernel = Callable[..., Any]

_SMALL = 4096
"""Bytes of a weight of which there is one copy: it is in a cache anyway."""

_MOST_COPIES, _MOST_BYTES = 256, 256 * 2**20

_ROUND = 1e-3
"""Seconds that one kernel runs before the other does again."""


@dataclass(frozen=True)
class Arrays:
    """What a kernel is called with: `first` by the positions of its function's parameters, `calls` for one call after the other.

    `results` are the positions that it writes.
    """

    first: Mapping[int, np.ndarray]
    calls: Sequence[Sequence[Any]]
    results: tuple[int, ...]

    @staticmethod
    def of(call: Call, samples: int, footprint: int, given: Mapping[int, np.ndarray] | None = None) -> Arrays:
        """Random numbers, but for those `given`; `footprint` is the bytes of all weights of the network."""
        generator, given = np.random.default_rng(0), given or {}
        kernel = call.kernel
        values = (*kernel.inputs, *kernel.results)
        kept = [position for position in range(len(values)) if position not in call.shared]
        arrays = {}
        for position in kept:
            value, part = values[position], call.parts.get(position)
            shape = tuple(samples if e is N else int(e) for e in (part.shape if part else value.type.shape))
            array = given.get(position)
            arrays[position] = array if array is not None else _random(shape, value.type.dtype.value, generator)
        weights = [p for p in kept if p < len(kernel.inputs) and _is_weight(values[p]) and arrays[p].nbytes > _SMALL]
        size = sum(arrays[p].nbytes for p in weights)
        count = max(1, min(-(-footprint // size), _MOST_COPIES, _MOST_BYTES // size)) if size else 1
        tensor = load_runtime().from_dlpack
        shared = {p: tensor(a) for p, a in arrays.items()}
        calls = [[shared[p] for p in kept]]
        for _ in range(count - 1):
            copies = {p: tensor(aligned_copy(arrays[p])) for p in weights}
            calls.append([copies.get(p, shared[p]) for p in kept])
        return Arrays(arrays, calls, tuple(p for p in kept if p >= len(kernel.inputs)))

    def computed(self, kernel: Kernel) -> list[np.ndarray]:
        """Copies of the results of one call, from results that are zero before."""
        for position in self.results:
            self.first[position][...] = 0
        kernel(*self.calls[0])
        return [self.first[position].copy() for position in self.results]


def _random(shape: tuple[int, ...], dtype: str, generator: np.random.Generator) -> np.ndarray:
    kind = element_type(dtype)
    if kind.kind in "biu":
        return aligned_copy(np.zeros(shape, kind))
    return aligned_copy(generator.standard_normal(shape, np.float32).astype(kind))


def _is_weight(value: Value) -> bool:
    return isinstance(root(value).op, Parameter | Constant | WinogradWeights)


def agree(results: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> bool:
    """Whether results are the same but for rounding: tiles of 4 are within 1e-5 of the largest of them."""
    for one, other in zip(results, expected, strict=True):
        tolerance = 1e-4 if one.dtype.itemsize > 2 else 3e-2
        a, b = one.astype(np.float64), other.astype(np.float64)
        largest = float(np.abs(b[np.isfinite(b)]).max(initial=0))
        if not np.allclose(a, b, rtol=0, atol=tolerance * max(largest, 1e-30), equal_nan=True):
            return False
    return True


@dataclass(frozen=True)
class Comparison:
    """Seconds of a call of two in each of several rounds, in which they took turns."""

    one: np.ndarray
    other: np.ndarray

    @property
    def ratio(self) -> float:
        """The other's time over the one's: the median of the rounds' ratios."""
        return float(np.median(self.other / self.one))

    def other_is_faster(self, least: float) -> bool:
        """Whether the other needs less than this part of the one's time, and wins at least four of five rounds."""
        return self.ratio < least and float(np.mean(self.other < self.one)) >= 0.8


def alternate(one: Callable[[], float], other: Callable[[], float], seconds: float, least: int = 5) -> Comparison:
    """Both in turns, each first in every second round, for so long and at least so many rounds. They return seconds of a call."""
    times: list[tuple[float, float]] = []
    one(), other()
    stop = perf_counter() + seconds
    while len(times) < least or perf_counter() < stop:
        if len(times) % 2:
            second, first = other(), one()
        else:
            first, second = one(), other()
        times.append((first, second))
    return Comparison(np.array([a for a, _ in times]), np.array([b for _, b in times]))


def repeated(kernel: Kernel, arrays: Arrays) -> Callable[[], float]:
    """Calls a kernel for about a millisecond, and gives the seconds of one call."""
    calls = cycle(arrays.calls)
    return timed(lambda arguments: kernel(*arguments), lambda: next(calls))


def timed(call: Callable[[Any], object], following: Callable[[], Any]) -> Callable[[], float]:
    """Calls something for about a millisecond, with what `following` gives for each call, and gives the seconds of one."""
    for _ in range(2):
        call(following())
    started = perf_counter()
    call(following())
    count = max(1, min(1000, int(_ROUND / max(perf_counter() - started, 1e-7))))

    def run() -> float:
        arguments = [following() for _ in range(count)]
        before = perf_counter()
        for each in arguments:
            call(each)
        return (perf_counter() - before) / count

    return run
