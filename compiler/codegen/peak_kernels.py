"""The kernels that find out what a machine can do at most (see `peaks`)."""

from __future__ import annotations

from typing import Any

import tvm

_MULTIPLY_ADDS = """
@T.prim_func(private=True, s_tir=True)
def main(c: T.Buffer(({tasks}, {vectors}, {lanes}), "float32")):
    for p in T.parallel({tasks}):
        with T.sblock("registers"):
            sums = T.sblock_alloc_buffer(({vectors}, {lanes}), "float32", scope="local")
            for i in T.unroll({vectors}):
                for j in T.vectorized({lanes}):
                    sums[i, j] = c[p, i, j]
            for k in range({turns}):
                for i in T.unroll({vectors}):
                    for j in T.vectorized({lanes}):
                        sums[i, j] = sums[i, j] * T.float32(0.999) + T.float32(1.5)
            for i in T.unroll({vectors}):
                for j in T.vectorized({lanes}):
                    c[p, i, j] = sums[i, j]
"""

_READING = """
@T.prim_func(private=True, s_tir=True)
def main(x: T.Buffer(({tasks}, {rows}, {vectors}, {lanes}), "float32"), c: T.Buffer(({tasks}, {vectors}, {lanes}), "float32")):
    for p in T.parallel({tasks}):
        with T.sblock("registers"):
            sums = T.sblock_alloc_buffer(({vectors}, {lanes}), "float32", scope="local")
            for i in T.unroll({vectors}):
                for j in T.vectorized({lanes}):
                    sums[i, j] = T.float32(0)
            for k in range({rows}):
                for i in T.unroll({vectors}):
                    for j in T.vectorized({lanes}):
                        sums[i, j] = sums[i, j] + x[p, k, i, j]
            for i in T.unroll({vectors}):
                for j in T.vectorized({lanes}):
                    c[p, i, j] = sums[i, j]
"""


def multiply_adds(tasks: int, vectors: int, lanes: int, turns: int) -> Any:
    """A function that makes `turns` multiply-adds with every number of [tasks, vectors, lanes], each task on a core."""
    return tvm.script.from_source(_MULTIPLY_ADDS.format(tasks=tasks, vectors=vectors, lanes=lanes, turns=turns))


def reading(tasks: int, rows: int, vectors: int, lanes: int) -> Any:
    """A function that reads [tasks, rows, vectors, lanes] once, each task on a core; sums over the rows are written."""
    return tvm.script.from_source(_READING.format(tasks=tasks, rows=rows, vectors=vectors, lanes=lanes))
