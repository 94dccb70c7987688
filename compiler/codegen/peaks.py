"""What this machine can do at most, by kernels that do nothing else: multiply-adds on registers, reading of memory."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from dlc.compiler.codegen.cache import Cache, compiler_version
from dlc.compiler.codegen.target import CpuTarget, this_processor
from dlc.compiler.codegen.workload import digest
from dlc.runtime import threads as pool
from dlc.runtime.arrays import aligned_empty
from dlc.runtime.library import load_runtime, without_torch

_KIND = "peaks"
_TURNS = 100_000
_BYTES = 256 * 2**20
"""More than any cache holds."""

_SECONDS, _PATIENCE = 0.6, 3.0
"""How long each of the two is tried, and how long where other processes are in the way; the fastest call counts."""

_UNDISTURBED = 0.85
"""What several cores reach at least of as many times what one alone does, unless others use them too."""


class Peaks(msgspec.Struct, frozen=True):
    """Floating-point operations and bytes in a second, on `threads` cores together (0: of a GPU, by its data sheet). `disturbed`: other processes were seen to
    use the cores meanwhile."""

    threads: int
    flops: float
    bytes: float
    disturbed: bool = False


def machine_peaks(threads: int | None = None, cache: Cache | None = None) -> Peaks:
    """This machine's peaks on so many cores (None: all).

    Measuring takes about two seconds. A cache remembers the result, unless other processes were seen to use the cores.
    """
    count = pool.resolve(threads)
    key = digest(this_processor(), count, compiler_version())
    content = cache.get(_KIND, key) if cache is not None else None
    if content is not None:
        try:
            return msgspec.json.decode(content, type=Peaks)
        except msgspec.DecodeError:
            pass  # measured again
    found = _measure(count)
    if cache is not None and not found.disturbed:
        cache.put(_KIND, key, msgspec.json.encode(found))
    return found


def _measure(threads: int) -> Peaks:
    with without_torch():
        from dlc.compiler.codegen.build import CpuCode
        from dlc.compiler.codegen.peak_kernels import multiply_adds, reading

    target, tensor = CpuTarget("cpu"), load_runtime().from_dlpack
    vectors = target.registers * 3 // 4
    rows = _BYTES // (4 * threads * vectors * target.lanes)
    functions = {
        "one": multiply_adds(1, vectors, target.lanes, _TURNS),
        "all": multiply_adds(threads, vectors, target.lanes, _TURNS),
        "reading": reading(threads, rows, vectors, target.lanes),
    }
    code, number = CpuCode(functions, target), np.dtype(np.float32)
    sums = aligned_empty((threads, vectors, target.lanes), number)
    data = aligned_empty((threads, rows, vectors, target.lanes), number)
    sums[...], data[...] = 0, 1
    each = 2.0 * vectors * target.lanes * _TURNS
    alone = each / _least(code.function("one"), 1, np.inf, tensor(sums[:1]))
    together = each * threads / _least(code.function("all"), threads, each / alone / _UNDISTURBED, tensor(sums))
    read = data.nbytes / _least(code.function("reading"), threads, np.inf, tensor(data), tensor(sums))
    return Peaks(threads, together, read, disturbed=together < _UNDISTURBED * threads * alone)


def _least(function: Any, threads: int, enough: float, *arguments: Any) -> float:
    """Seconds of the fastest of many calls; if it is not `enough`, of more of them."""
    least, started = np.inf, perf_counter()
    pool.enter(threads)
    try:
        while perf_counter() - started < (_SECONDS if least <= enough else _PATIENCE):
            before = perf_counter()
            function(*arguments)
            least = min(least, perf_counter() - before)
    finally:
        pool.leave()
    return float(least)
