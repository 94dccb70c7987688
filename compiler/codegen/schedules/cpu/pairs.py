"""What a training step does around products of pairs: weights and pixels paired, images turned into planes, the weight's gradient."""

from __future__ import annotations

from typing import ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.panels import mark
from dlc.compiler.codegen.schedules.base import KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cpu.loops import WORTH_SHARING, extent, product, vectorize
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

    A task is one place of the kernel, one panel, one block; the places of a panel follow each other, so that what they read
    stays in a core's cache. The sums of a panel go through the level 1 cache to what is fused behind.
    """

    anchors: ClassVar[frozenset[str]] = frozenset({"paired_gradient"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        wide = int(blocks.anchor.attributes["dlc.wide"])
        first, *others = inline(schedule, blocks.epilogue)
        main, store = schedule.get_sblock(blocks.anchor.name), schedule.get_sblock(first.name)
        block, *taps, c, lane = schedule.get_loops(store)
        c_task, c = schedule.split(c, [None, wide])
        schedule.reorder(block, c_task, *taps, c, lane)
        task = schedule.fuse(block, c_task, *taps)
        schedule.compute_at(main, task, preserve_unit_loops=True)
        mark(schedule, schedule.get_loops(main)[-7], (1, wide))
        if extent(schedule, task) != 1:
            schedule.parallel(task)
        vectorize(schedule, lane, target.lanes)
        for other in others:
            schedule_map(schedule, other, target)
        return True
