"""Warped images: one task for each image; its neighbours packed first, then vectors of samples along a row."""

from __future__ import annotations

from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.schedules.base import KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.loops import extent, share, vector_width
from dlc.compiler.codegen.target import CpuTarget

SAMPLE = 0.7
"""Nanoseconds of one sample on one core."""


class WarpRule(ScheduleRule):
    """Reads from random places do not vectorise by themselves: LLVM is given vectors, whose lanes it reads one by one."""

    anchors: ClassVar[frozenset[str]] = frozenset({"warp"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every warp."""
        packs = [b for b in blocks.prologue if b.name == "four"]
        inline(schedule, [b for b in blocks.prologue if b not in packs])
        anchor = schedule.get_sblock(blocks.anchor.name)
        loops = schedule.get_loops(anchor)
        work = SAMPLE
        for loop in loops:
            work *= extent(schedule, loop) or 1
        _vectorize(schedule, loops[-1], target.lanes)
        image = schedule.fuse(*loops[:2])
        for block in packs:
            handle = schedule.get_sblock(block.name)
            schedule.compute_at(handle, image)
            _vectorize(schedule, schedule.get_loops(handle)[-1], target.lanes)
        share(schedule, [image], work)
        for block in blocks.epilogue:
            _vectorize(schedule, schedule.get_loops(schedule.get_sblock(block.name))[-1], target.lanes)
        return True


def _vectorize(schedule: Schedule, loop: Any, lanes: int) -> None:
    width = vector_width(extent(schedule, loop) or 1, 2 * lanes)
    schedule.vectorize(schedule.split(loop, [None, width])[1])
