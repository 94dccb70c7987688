"""Element-wise kernels on GPUs: neighbouring threads take neighbouring vectors of 16 bytes."""

from __future__ import annotations

from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.schedules.base import ELEMENTWISE, KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cuda.threads import share_out, vector_width


class ElementwiseRule(ScheduleRule):
    """Inlines every block that writes no result; each result gets a grid of threads."""

    anchors: ClassVar[frozenset[str]] = frozenset({ELEMENTWISE})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: Any) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        for block in inline(schedule, tuple(blocks)):
            schedule_map(schedule, schedule.get_sblock(block.name))
        return True


def schedule_map(schedule: Schedule, block: Any) -> None:
    """Gives a block without reductions its threads, each for one vector."""
    loops = list(schedule.get_loops(block)) or [schedule.add_unit_loop(block)]
    width = vector_width(schedule, block)
    if width == 1:
        share_out(schedule, loops)
        return
    *outer, last = loops
    part, lane = schedule.split(last, [None, width])
    share_out(schedule, [*outer, part])
    schedule.vectorize(lane)
