"""What a training step does around products of pairs: weights and pixels paired, images turned into planes, the weight's gradient."""

from __future__ import annotations

from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.panels import mark
from dlc.compiler.codegen.schedules.base import Block, KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cpu.loops import WORTH_SHARING, extent, largest_divisor, product, vectorize
from dlc.compiler.codegen.schedules.cpu.winograd_gradient import schedule_total
from dlc.compiler.codegen.target import CpuTarget
from dlc.compiler.codegen.turning import SIDE, mark_planes, mark_weights
from dlc.compiler.panel import CHANNELS, DEPTH


class PairWeightRule(ScheduleRule):
    """Weights rounded and paired: vectors along the outputs whose pairs lie side by side, or blocks turned in registers."""

    anchors: ClassVar[frozenset[str]] = frozenset({"pair_weight"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        *outer, place = schedule.get_loops(schedule.get_sblock(blocks.anchor.name))
        total = product(extent(schedule, loop) for loop in (*outer, place))
        _, pair, lane = schedule.split(place, [2, DEPTH // 2, CHANNELS // 2])
        if blocks.anchor.attributes["dlc.turned"]:
            mark_weights(schedule, pair)
        else:
            schedule.vectorize(lane)
        if total * 0.5 > WORTH_SHARING:
            schedule.parallel(schedule.fuse(*outer))
        return True


class PairPixelsRule(ScheduleRule):
    """Pixels paired: for each pair of them all channels, in vectors."""

    anchors: ClassVar[frozenset[str]] = frozenset({"pair_pixels"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        block, n, tap, chunk, place = schedule.get_loops(schedule.get_sblock(blocks.anchor.name))
        total = product(extent(schedule, loop) for loop in (block, n, chunk, place))
        half, pair, lane = schedule.split(place, [2, DEPTH // 2, CHANNELS // 2])
        schedule.reorder(n, tap, chunk, pair, block, half, lane)
        schedule.unroll(half)
        schedule.vectorize(lane)
        if total * 0.5 > WORTH_SHARING:
            schedule.parallel(schedule.fuse(n, tap, chunk))
        return True


class PlanesRule(ScheduleRule):
    """An image turned into planes: pairs of places for some channels, turned in registers; few channels one by one."""

    anchors: ClassVar[frozenset[str]] = frozenset({"planes"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        n, plane, c, place = schedule.get_loops(schedule.get_sblock(blocks.anchor.name))
        sizes = [extent(schedule, loop) or 1 for loop in (n, plane, c, place)]
        if not blocks.anchor.attributes["dlc.turned"]:
            schedule.reorder(n, plane, place, c)
            if product(sizes) * 0.5 > WORTH_SHARING:
                schedule.parallel(schedule.fuse(n, plane))
            return True
        (pairs,) = (schedule.get_sblock(b.name) for b in blocks.where(part="pairs"))
        together = largest_divisor(sizes[2] // SIDE, 4)
        c_task, block, c = schedule.split(c, [None, together, SIDE])
        chunk, place = schedule.split(place, [None, 2 * SIDE])
        schedule.reorder(n, plane, c_task, chunk, block, c, place)
        schedule.compute_at(pairs, chunk, preserve_unit_loops=True)
        block_in, pair, lane = schedule.get_loops(pairs)[-3:]
        schedule.reorder(pair, block_in, lane)
        schedule.unroll(block_in)
        schedule.vectorize(lane)
        mark_planes(schedule, c)
        if product(sizes) * 0.5 > WORTH_SHARING:
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
        if extent(schedule, task) != 1:
            schedule.parallel(task)
        _schedule_sums(schedule, main, panel, target)
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


def _schedule_sums(schedule: Schedule, main: Any, panel: tuple[int, int], target: CpuTarget) -> None:
    """Some images at a time, place by place of the kernel; the innermost loops become calls."""
    row, j, c, lane, image, tap, k = schedule.get_loops(main)[-7:]
    images, chunks = extent(schedule, image) or 1, (extent(schedule, k) or 1) // DEPTH
    own = chunks * DEPTH * 2 * (panel[1] + CHANNELS)
    turn, image = schedule.split(image, [None, largest_divisor(images, target.l2 // 4 // own)])
    schedule.reorder(turn, row, j, c, lane, image, tap, k)
    if extent(schedule, turn) != 1:
        zeros = schedule.decompose_reduction(main, turn)
        vectorize(schedule, schedule.get_loops(zeros)[-1], target.lanes)
    mark(schedule, j if panel[0] > 1 else c, panel)
