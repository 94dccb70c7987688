"""The gradient of a linear layer by its operand, over a weight too large for the caches: a stream of the weight as it lies."""

from __future__ import annotations

from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.schedules.base import KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cpu.loops import extent, largest_divisor, spatial_and_reduced
from dlc.compiler.codegen.target import CpuTarget

COLUMNS = 64
"""Features of a task: its sums stay in the level 2 cache, and each block of weights gives it some kilobytes in one piece."""

BLOCKS = 8
"""Blocks of weights that are added up in registers at a time."""

ROWS = 4
"""Rows of a register tile."""


class LinearInputGradientRule(ScheduleRule):
    """Sums of products of vectors, one for each lane, in the order of the weight's blocks; a task owns some features.

    Tiles of rows by features stay in registers while some blocks go by. The lanes are added up at the end.
    """

    anchors: ClassVar[frozenset[str]] = frozenset({"linear_input_gradient"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        for block in blocks.where(part="padding"):
            schedule_map(schedule, block, target)
        (lanes,) = blocks.where(part="lanes")
        last = inline(schedule, [b for b in blocks.epilogue if b != lanes])
        total = schedule.get_sblock(lanes.name)
        (rows, features), _ = spatial_and_reduced(schedule, total)
        width = largest_divisor(extent(schedule, features) or 1, COLUMNS)
        task, features = schedule.split(features, [None, width])
        schedule.reorder(task, rows, features)
        main = schedule.get_sblock(blocks.anchor.name)
        schedule.compute_at(main, task, preserve_unit_loops=True)
        _schedule_sums(schedule, main, task, target)
        for block in last:
            schedule_map(schedule, block, target)
        return True


def _schedule_sums(schedule: Schedule, main: Any, task: Any, target: CpuTarget) -> None:
    spatial, (block, vector) = spatial_and_reduced(schedule, main)
    rows, features, lane = spatial[-3:]
    high = largest_divisor(extent(schedule, rows) or 1, ROWS)
    wide = largest_divisor(extent(schedule, features) or 1, max(1, (target.registers - 2 - high) // high))
    rows, row = schedule.split(rows, [None, high])
    features, feature = schedule.split(features, [None, wide])
    turn, block = schedule.split(block, [None, largest_divisor(extent(schedule, block) or 1, BLOCKS)])
    schedule.reorder(turn, features, rows, block, vector, row, feature, lane)
    schedule.parallel(task)
    schedule.unroll(row)
    schedule.unroll(feature)
    schedule.vectorize(lane)
    schedule.decompose_reduction(main, turn)
