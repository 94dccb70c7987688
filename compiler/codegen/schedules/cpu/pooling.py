"""Pooling and its gradients: windows over an image, vectors along the channels."""

from __future__ import annotations

from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.schedules.base import Block, KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cpu.loops import (
    cost,
    extent,
    product,
    share,
    spatial_and_reduced,
    vector_width,
)
from dlc.compiler.codegen.target import CpuTarget


class PoolRule(ScheduleRule):
    """Folds over windows; element-wise blocks behind are applied row by row while the results are in cache."""

    anchors: ClassVar[frozenset[str]] = frozenset({"pool"})
    specializes_batch_one: ClassVar[bool] = True

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        last = inline(schedule, (*(() if blocks.anchor.reduces else (blocks.anchor,)), *blocks.epilogue))
        for block in blocks.where(part="window"):
            if not block.reduces:
                continue
            behind = last[0] if block == blocks.anchor and len(last) == 1 else None
            behind = behind if behind is not None and _same_extents(schedule, block, behind) else None
            schedule_windows(schedule, block, behind, target)
            if behind is not None:
                return True
        for block in last:
            if not blocks.anchor.reduces and len(last) == 1:
                schedule_gather(schedule, block, int(blocks.anchor.attributes["dlc.stride"]), target)
            else:
                schedule_map(schedule, block, target)
        return True


def schedule_gather(schedule: Schedule, block: Block, stride: int, target: CpuTarget) -> None:
    """A pool's gradient: columns cut by the stride and unrolled, so that each has its windows at known distances."""
    handle = schedule.get_sblock(block.name)
    loops = schedule.get_loops(handle)
    extents = [extent(schedule, loop) for loop in loops]
    if len(loops) != 4:
        schedule_map(schedule, block, target)
        return
    work = product(extents) * cost(schedule, handle)
    n, y, x, c = loops
    if stride > 1:
        _, inner = schedule.split(x, [None, stride])
        schedule.unroll(inner)
    tile = vector_width(extents[3] or 1, target.lanes)
    if tile >= target.lanes // 4 or tile == extents[3]:
        _, lane = schedule.split(c, [None, tile])
        schedule.vectorize(lane)
    share(schedule, [n, y], work)


def _same_extents(schedule: Schedule, anchor: Block, last: Block) -> bool:
    spatial, _ = spatial_and_reduced(schedule, schedule.get_sblock(anchor.name))
    loops = schedule.get_loops(schedule.get_sblock(last.name))
    return [extent(schedule, a) for a in spatial] == [extent(schedule, b) for b in loops]


def schedule_windows(schedule: Schedule, block: Block, last: Block | None, target: CpuTarget) -> None:
    """One fold over windows: rows in parallel, whole vectors of channels, the window innermost."""
    main = schedule.get_sblock(block.name)
    spatial, reduced = spatial_and_reduced(schedule, main)
    extents = [extent(schedule, loop) for loop in (*spatial, *reduced)]
    window = product(extents[4:])
    work = product(extents) * (0.02 + cost(schedule, main))
    store = main if last is None else schedule.get_sblock(last.name)
    if last is not None:
        schedule.set_scope(main, 0, "global")
    n, y, x, c = schedule.get_loops(store)[:4]
    channels = extent(schedule, c) or 1
    tile = vector_width(channels, target.lanes)
    c_outer, c_tile = schedule.split(c, [None, tile])
    if last is None:
        _, reduced = spatial_and_reduced(schedule, main)
        schedule.reorder(n, y, x, c_outer, *reduced, c_tile)
        lane: Any = c_tile
    else:
        schedule.reorder(n, y, x, c_outer, c_tile)
        schedule.compute_at(main, c_outer, preserve_unit_loops=True)
        inner, reduced = spatial_and_reduced(schedule, main)
        lane = inner[-1]
        schedule.reorder(*reduced, lane)
        schedule.vectorize(c_tile)
    schedule.vectorize(lane)
    if window <= 16:
        for loop in reduced:
            schedule.unroll(loop)
    share(schedule, [n, y], work)
    schedule.decompose_reduction(main, reduced[0])
