"""What a training step does around products of pairs: weights and pixels paired, images turned into planes, the weight's gradient."""

from __future__ import annotations

from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.panels import mark
from dlc.compiler.codegen.schedules.base import Block, KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cpu.loops import WORTH_SHARING, extent, product, vectorize
from dlc.compiler.codegen.schedules.cpu.winograd_gradient import schedule_total
from dlc.compiler.codegen.target import CpuTarget
from dlc.compiler.panel import CHANNELS, DEPTH


class PairsRule(ScheduleRule):
    """Numbers rounded and paired: vectors along the outputs whose pairs lie side by side."""

    anchors: ClassVar[frozenset[str]] = frozenset({"pairs"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        inline(schedule, [b for b in blocks if b.name != blocks.anchor.name])
        handle = schedule.get_sblock(blocks.anchor.name)
        *outer, chunk, place = schedule.get_loops(handle)
        total = product(extent(schedule, loop) for loop in (*outer, chunk, place))
        half, pair, lane = schedule.split(place, [2, DEPTH // 2, CHANNELS // 2])
        schedule.vectorize(lane)
        if total * 0.5 > WORTH_SHARING:
            schedule.parallel(schedule.fuse(*outer, chunk))
        return True


class PlanesRule(ScheduleRule):
    """An image turned into planes: some channels of one pixel after the other, each to a plane of its own."""

    anchors: ClassVar[frozenset[str]] = frozenset({"planes"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        inline(schedule, [b for b in blocks if b.name != blocks.anchor.name])
        handle = schedule.get_sblock(blocks.anchor.name)
        n, plane, c, place = schedule.get_loops(handle)
        total = product(extent(schedule, loop) for loop in (n, plane, c, place))
        c_task, c = schedule.split(c, [None, CHANNELS])
        schedule.reorder(n, plane, c_task, place, c)
        if total * 0.5 > WORTH_SHARING:
            schedule.parallel(schedule.fuse(n, plane, c_task))
        return True


class PairedGradientRule(ScheduleRule):
    """Sums over pixels for panels of channels of the image by 32 of the result, with element-wise blocks behind them.

    A task has all places of the kernel for one panel and one block of a part of the images. It adds up image by image, so
    that what it reads comes into a core's cache once. The sums of a panel go through that cache to what is fused behind.
    """

    anchors: ClassVar[frozenset[str]] = frozenset({"paired_gradient"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        attributes = blocks.anchor.attributes
        panel, parts = (int(attributes["dlc.high"]), int(attributes["dlc.wide"])), int(attributes["dlc.parts"])
        main = schedule.get_sblock(blocks.anchor.name)
        if parts == 1:
            first, *others = inline(schedule, blocks.epilogue)
            task = _schedule_weights(schedule, first, panel[1], target)
            schedule.compute_at(main, task, preserve_unit_loops=True)
        else:
            (total,) = blocks.where(part="parts")
            others = list(inline(schedule, [b for b in blocks.epilogue if b is not total]))
            task = _schedule_parts(schedule, main, int(attributes["dlc.rows"]), panel[1])
            schedule_total(schedule, total.name, target)
        _schedule_sums(schedule, main, task, panel, target)
        if extent(schedule, task) != 1:
            schedule.parallel(task)
        for other in others:
            schedule_map(schedule, other, target)
        return True


def _schedule_weights(schedule: Schedule, last: Block, wide: int, target: CpuTarget) -> Any:
    """The loops of the last block. Returns the loop of tasks."""
    block, *taps, c, lane = schedule.get_loops(schedule.get_sblock(last.name))
    c_task, c = schedule.split(c, [None, wide])
    schedule.reorder(block, c_task, *taps, c, lane)
    task = schedule.fuse(block, c_task)
    vectorize(schedule, lane, target.lanes)
    return task


def _schedule_parts(schedule: Schedule, main: Any, high: int, wide: int) -> Any:
    """The loops of sums that are added up later. Returns the loop of tasks."""
    row, j, c, lane, *reduced = schedule.get_loops(main)
    task, row = schedule.split(row, [None, high])
    c_task, c = schedule.split(c, [None, wide])
    schedule.reorder(task, c_task, row, j, c, lane, *reduced)
    return schedule.fuse(task, c_task)


def _schedule_sums(schedule: Schedule, main: Any, task: Any, panel: tuple[int, int], target: CpuTarget) -> None:
    """Image by image, place by place; the innermost loops become calls."""
    row, j, c, lane, image, tap, k = schedule.get_loops(main)[-7:]
    several = extent(schedule, image) != 1
    if several:
        schedule.reorder(image, row, j, c, lane, tap, k)
    mark(schedule, j if panel[0] > 1 else c, panel)
    if several:
        zeros = schedule.decompose_reduction(main, image)
        vectorize(schedule, schedule.get_loops(zeros)[-1], target.lanes)
