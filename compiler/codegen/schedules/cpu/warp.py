"""Warped images: one task for each image; its field and packed neighbours first, then vectors of samples along a row."""

from __future__ import annotations

from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.gathering import mark_gathered
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
        kept = [b for b in blocks.prologue if b.name in ("framed", "four", "wide", "field")]
        source = "four" if any(b.name == "four" for b in kept) else "framed"
        inline(schedule, [b for b in blocks.prologue if b not in kept and b.name != "turned"])
        anchor = schedule.get_sblock(blocks.anchor.name)
        loops = schedule.get_loops(anchor)
        work = SAMPLE
        for loop in loops:
            work *= extent(schedule, loop) or 1
        mark_gathered(schedule, loops[2], source)
        _vectorize(schedule, loops[-1], target.lanes)
        image, channel = loops[:2]
        handles = [schedule.get_sblock(block.name) for block in kept]
        for handle in reversed(handles):
            schedule.compute_at(handle, channel if schedule.get(handle).name_hint in ("framed", "four") else image)
        sums = {}
        for block, handle in zip(kept, handles, strict=True):
            if block.name == "framed":
                _frame(schedule, handle, target.lanes)
            elif block.reduces:
                sums[handle] = _product(schedule, handle, target.lanes)
            else:
                _vectorize(schedule, schedule.get_loops(handle)[-1], target.lanes)
        for block in blocks.epilogue:
            _vectorize(schedule, schedule.get_loops(schedule.get_sblock(block.name))[-1], target.lanes)
        share(schedule, [image], work)
        for handle, summed in sums.items():
            schedule.decompose_reduction(handle, summed)
        return True


def _product(schedule: Schedule, handle: Any, lanes: int) -> Any:
    """A product of small matrices: vectors along a row, the sum in a register. Returns the loop of the sum."""
    column, summed = schedule.get_loops(handle)[-2:]
    columns, vector = schedule.split(column, [None, vector_width(extent(schedule, column) or 1, 2 * lanes)])
    schedule.reorder(columns, summed, vector)
    schedule.vectorize(vector)
    schedule.unroll(summed)
    return summed


def _frame(schedule: Schedule, handle: Any, lanes: int) -> None:
    """Zeros, and the image written into their middle: no test at any pixel."""
    filled = schedule.decompose_padding(handle, schedule.get_loops(handle)[-2])
    for block in (filled, handle):
        _vectorize(schedule, schedule.get_loops(block)[-1], lanes)


def _vectorize(schedule: Schedule, loop: Any, lanes: int) -> None:
    width = vector_width(extent(schedule, loop) or 1, 2 * lanes)
    schedule.vectorize(schedule.split(loop, [None, width])[1])
