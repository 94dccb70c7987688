"""Reductions over any axes: rows, columns, everything; statistics of channels; softmax and losses made of several."""

from __future__ import annotations

from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.schedules.base import REDUCTION, KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cpu.loops import (
    TASKS,
    WORTH_SHARING,
    cost,
    extent,
    largest_divisor,
    loads,
    product,
    share,
    spatial_and_reduced,
    uses,
    vector_width,
)
from dlc.compiler.codegen.target import CpuTarget


class ReductionRule(ScheduleRule):
    """Schedules each reduction on its own, then what is left of the element-wise blocks.

    A reduction with few results is cut into a fixed number of parts whose sums are added in order, so its rounding does
    not depend on the number of threads.
    """

    anchors: ClassVar[frozenset[str]] = frozenset({REDUCTION})
    specializes_batch_one: ClassVar[bool] = True

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        maps = inline(schedule, tuple(b for b in blocks if not b.reduces))
        for block in (b for b in blocks if b.reduces or b in maps):
            if not schedule.get_loops(schedule.get_sblock(block.name)):
                schedule.add_unit_loop(
                    schedule.get_sblock(block.name)
                )  # rfactor refuses blocks without a loop beside it
        for block in blocks:
            if block.reduces:
                schedule_reduction(schedule, schedule.get_sblock(block.name), target)
            elif block in maps:
                schedule_map(schedule, block, target)
        return True


def schedule_reduction(schedule: Schedule, block: Any, target: CpuTarget) -> None:
    """Gives one reducing block its loops."""
    spatial, reduced = spatial_and_reduced(schedule, block)
    extents = [extent(schedule, loop) for loop in (*spatial, *reduced)]
    work = product(extents) * (0.02 + cost(schedule, block))
    along_rows = not spatial or innermost_is_reduced(schedule, block)
    rows = product(extent(schedule, loop) for loop in (spatial if along_rows else spatial[:-1]))
    symbolic_rows = any(extent(schedule, loop) is None for loop in spatial)
    symbolic = any(extent(schedule, loop) is None for loop in reduced)
    if not symbolic and not symbolic_rows and rows < 2 * target.cores and work > WORTH_SHARING:
        block = _cut(schedule, block, reduced)
        spatial, reduced = spatial_and_reduced(schedule, block)
        spatial = [spatial[-1], *spatial[:-1]]  # the parts, outermost
    if along_rows:
        _schedule_rows(schedule, block, spatial, reduced, _row_lanes(schedule, reduced, target), work)
    else:
        _schedule_columns(schedule, block, spatial, reduced, work, target)


def innermost_is_reduced(schedule: Schedule, block: Any) -> bool:
    """Whether adjacent elements of the largest operand belong to the same result."""
    info = schedule.get(block)
    reduce_variables = [v.var for v in info.iter_vars if int(v.iter_type) != 0]
    best: tuple[int, bool] = (-1, False)
    for load in loads(info.body):
        if load.indices:
            used = sum(any(uses(i, v.var) for i in load.indices) for v in info.iter_vars)
            best = max(best, (used, any(uses(load.indices[-1], v) for v in reduce_variables)))
    return best[1]


def _row_lanes(schedule: Schedule, reduced: list[Any], target: CpuTarget) -> int:
    """Partial sums of a row that are kept side by side: whole vectors where the row's length allows."""
    length = extent(schedule, reduced[-1])
    if length is None or length < 2 * target.lanes:
        return 1
    lanes = vector_width(length, target.lanes)
    return lanes if lanes >= target.lanes // 2 else 1


def _cut(schedule: Schedule, block: Any, reduced: list[Any]) -> Any:
    """Cuts the reduced loops into a fixed number of parts. Returns the block that reduces the parts."""
    extents = [extent(schedule, loop) or 1 for loop in reduced]
    outer, parts = 0, largest_divisor(extents[0], TASKS)
    loop = reduced[0]
    for count in range(1, len(extents)):
        if parts * 2 > TASKS:
            break
        total = product(extents[: count + 1])
        if largest_divisor(total, TASKS) > parts:
            outer, parts = count, largest_divisor(total, TASKS)
    if outer:
        loop = schedule.fuse(*reduced[: outer + 1])
    part, _ = schedule.split(loop, [parts, None])
    return schedule.rfactor(part, 0)


def _schedule_rows(
    schedule: Schedule, block: Any, spatial: list[Any], reduced: list[Any], lanes: int, work: float
) -> None:
    schedule.reorder(*spatial, *reduced)
    if lanes > 1:
        _, lane = schedule.split(reduced[-1], [None, lanes])
        partial = schedule.rfactor(lane, len(spatial))
        rows, _ = spatial_and_reduced(schedule, block)
        if rows:
            schedule.compute_at(partial, rows[-1], preserve_unit_loops=True)
        lane, turns = spatial_and_reduced(schedule, partial)
        turns = turns or schedule.get_loops(partial)[-1:]
        schedule.reorder(*turns, lane[-1])
        schedule.vectorize(lane[-1])
        share(schedule, rows, work)
        schedule.decompose_reduction(partial, turns[0])
        return
    share(schedule, spatial, work)


def _schedule_columns(
    schedule: Schedule,
    block: Any,
    spatial: list[Any],
    reduced: list[Any],
    work: float,
    target: CpuTarget,
) -> None:
    column = spatial[-1]
    width = extent(schedule, column) or 1
    tile = vector_width(width, target.lanes)
    outer = spatial[:-1]
    if tile % target.lanes == 0 or tile == width:
        column_outer, column = schedule.split(column, [None, tile])
        outer = [*outer, column_outer]
    schedule.reorder(*outer, *reduced, column)
    if (extent(schedule, column) or 1) <= 4 * target.lanes:
        schedule.vectorize(column)
    share(schedule, outer, work)
    schedule.decompose_reduction(block, reduced[0])
