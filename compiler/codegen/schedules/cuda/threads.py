"""What the CUDA rules share: vectors of adjacent elements, and loops bound to blocks and threads."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import sym
from tvm.ir import Call
from tvm.s_tir import Schedule

from dlc.compiler.codegen.schedules.cpu.loops import extent, largest_divisor, loads, static, uses

THREADS = 256
"""Threads of one block where nothing else decides."""

WARP = 32
"""Threads that run in step and can exchange registers."""

VECTOR = 4
"""Elements of 4 bytes in one load or store of 16 bytes."""


def vector_width(schedule: Schedule, block: Any) -> int:
    """How many elements along the last axis of its result a block can read and write at once: `VECTOR`, 2 or 1.

    Every operand must lie along that axis as the result does, from a place that divides into such vectors, or not depend on
    it; and neither may conditions, since all lanes take one way.
    """
    info = schedule.get(block)
    axes = [axis for axis in info.iter_vars if int(axis.iter_type) == 0]
    if not axes:
        return 1
    last = axes[-1]
    count = static(last.dom.extent)
    if count is None:
        return 1
    if any(uses(condition, last.var) for condition in _conditions(info.body)):
        return 1
    places = [(load.source.ty.shape, list(load.indices)) for load in loads(info.body)]
    for region in info.writes:
        places.append((region.source.shape, [r.min for r in region.region]))
    for width in (VECTOR, VECTOR // 2):
        if count % width == 0 and all(_divides(shape, at, last.var, width) for shape, at in places):
            return width
    return 1


def _divides(shape: Any, indices: list[Any], variable: Any, width: int) -> bool:
    """Whether `width` neighbours along a variable are an aligned vector of a tensor, or one and the same element."""
    if not any(uses(index, variable) for index in indices):
        return True
    if any(uses(index, variable) for index in indices[:-1]):
        return False
    offset = static(sym.Analyzer().simplify(indices[-1] - variable))
    length = static(shape[-1])
    return offset is not None and offset % width == 0 and length is not None and length % width == 0


def _conditions(body: Any) -> list[Any]:
    """The conditions under which parts of a statement are evaluated at all."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, Call) and "if_then_else" in str(node.op):
            found.append(node.args[0])

    tvm_ffi.structural_walk(body, visit)
    return found


def share_out(schedule: Schedule, loops: list[Any], threads: int = THREADS) -> Any:
    """Fuses loops and binds them to blocks of so many threads. Returns the loop of the threads."""
    blocks, inner = schedule.split(schedule.fuse(*loops) if len(loops) > 1 else loops[0], [None, threads])
    schedule.bind(blocks, "blockIdx.x")
    schedule.bind(inner, "threadIdx.x")
    return inner


def share_out_evenly(schedule: Schedule, loops: list[Any]) -> Any:
    """`share_out` such that blocks of threads end where rows of the tensor do: TVM moves other blocks into no other loops.

    Threads take the innermost loops whole, and a divisor of the next one.
    """
    threads = 1
    for loop in reversed(loops):
        count = extent(schedule, loop)
        if count is None:
            break
        fitting = largest_divisor(count, THREADS // threads)
        threads *= fitting
        if fitting != count:
            break
    return share_out(schedule, loops, threads)
