"""Pooling and its gradients on GPUs: a thread for a vector of channels of one window."""

from __future__ import annotations

from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.schedules.base import KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cuda.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cuda.folding import fold_in_registers


class PoolRule(ScheduleRule):
    """Folds over windows in registers, with the element-wise blocks behind."""

    anchors: ClassVar[frozenset[str]] = frozenset({"pool"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: Any) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        last = inline(schedule, tuple(b for b in blocks if not b.reduces))
        folds = [schedule.get_sblock(b.name) for b in blocks if b.reduces]
        if blocks.anchor.reduces and len(folds) == 1 and len(last) == 1 and not blocks.anchor.writes_result:
            fold_in_registers(schedule, folds, schedule.get_sblock(last[0].name))
            return True
        if folds:  # of a gradient: the extremum of each window, and its place
            fold_in_registers(schedule, folds, schedule.cache_write(folds[-1], 0, "local"))
        for block in last:
            schedule_map(schedule, schedule.get_sblock(block.name))
        return True
