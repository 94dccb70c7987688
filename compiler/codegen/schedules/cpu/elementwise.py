"""Element-wise kernels: maps with broadcasting, pads, transposes, slices, concatenations, random numbers, updates."""

from __future__ import annotations

from typing import Any, ClassVar

import tvm_ffi
from tvm.ir import Call
from tvm.s_tir import Schedule

from dlc.compiler.codegen.schedules.base import ELEMENTWISE, Block, KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.loops import (
    cost,
    extent,
    largest_divisor,
    loads,
    product,
    share,
    static,
    uses,
    vectorize,
)
from dlc.compiler.codegen.target import CpuTarget

GRAIN = 8192
"""Elements of one task."""


class ElementwiseRule(ScheduleRule):
    """Inlines every block that writes no result; each result gets one loop nest that LLVM vectorises."""

    anchors: ClassVar[frozenset[str]] = frozenset({ELEMENTWISE})
    specializes_batch_one: ClassVar[bool] = True

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        for block in inline(schedule, tuple(blocks)):
            schedule_map(schedule, block, target)
        return True


def schedule_map(schedule: Schedule, block: Block, target: CpuTarget) -> None:
    """Gives one block without reductions its loops: an outer one that threads share, inner ones over adjacent memory."""
    handle = schedule.get_sblock(block.name)
    loops = schedule.get_loops(handle)
    if not loops:
        return
    extents = [extent(schedule, loop) for loop in loops]
    work = product(extents) * cost(schedule, handle)
    flat = flat_axes(schedule, handle)
    inner = [loop for loop, e in zip(loops[-flat:], extents[-flat:], strict=True) if e is not None]
    outer = loops[: len(loops) - len(inner)]
    if not inner:
        share(schedule, outer, work)
        return
    size = product(extent(schedule, loop) for loop in inner)
    body = schedule.fuse(*inner) if len(inner) > 1 else inner[0]
    rest = product(extent(schedule, loop) for loop in outer)
    if size > GRAIN or (rest < 2 * target.cores and size >= 512):
        grain = largest_divisor(size, max(256, min(GRAIN, size * rest // (2 * target.cores))))
        if grain * 16 >= min(size, GRAIN):
            part, body = schedule.split(body, [None, grain])
            outer = [*outer, part]
    if size <= 4 * target.lanes and has_vectors(schedule, handle):
        # LLVM unrolls short loops instead of making vectors of them
        vectorize(schedule, body, target.lanes)
        if len(outer) > 1 and extent(schedule, outer[-1]) is not None:
            outer = outer[:-1]  # what depends on the channel alone stays in registers for a row
    share(schedule, outer, work)


def has_vectors(schedule: Schedule, block: Any) -> bool:
    """Whether a block's operands lie along its last axis as the result does, and none is read under a condition."""
    info = schedule.get(block)
    last = info.iter_vars[-1]
    conditional: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, Call) and "if_then_else" in str(node.op):
            conditional.append(node)

    tvm_ffi.structural_walk(info.body, visit)
    return not conditional and all(_follows(load, [last.var], [last.dom.extent]) for load in loads(info.body))


def flat_axes(schedule: Schedule, block: Any) -> int:
    """How many of the block's innermost axes may become one loop: all operands lie along them as the result does.

    An operand lies along axes as the result does if it is indexed by exactly these axes, last, over their whole extents,
    or if it does not depend on them at all.
    """
    info = schedule.get(block)
    variables = [v.var for v in info.iter_vars]
    extents = [v.dom.extent for v in info.iter_vars]
    reads = loads(info.body)
    written = list(info.writes[0].source.shape)  # larger than the block where that writes a part of it
    count = 1
    for width in range(2, len(variables) + 1):
        if not _equal(written[1 - width], extents[1 - width]):
            break
        if not all(_follows(load, variables[-width:], extents[-width:]) for load in reads):
            break
        count = width
    return count


def _follows(load: Any, variables: list[Any], extents: list[Any]) -> bool:
    width = len(variables)
    indices = list(load.indices)
    if not any(uses(i, v) for i in indices for v in variables):
        return True
    tail, shape = indices[-width:], list(load.source.ty.shape)[-width:]
    if len(tail) < width or any(uses(i, v) for i in indices[:-width] for v in variables):
        return False
    same = all(i.same_as(v) for i, v in zip(tail, variables, strict=True))
    return same and all(_equal(a, b) for a, b in zip(shape[1:], extents[1:], strict=True))


def _equal(a: Any, b: Any) -> bool:
    return static(a) == static(b) if static(a) is not None else bool(a.same_as(b))
