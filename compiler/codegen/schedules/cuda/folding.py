"""Folds that one thread makes alone, in registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm.s_tir import Schedule

from dlc.compiler.codegen.schedules.cpu.loops import extent, product, spatial_and_reduced
from dlc.compiler.codegen.schedules.cuda.threads import share_out_evenly, vector_width

_UNROLLED = 32
"""Rounds up to which the loops of a fold are written out."""


def fold_in_registers(schedule: Schedule, folds: Sequence[Any], store: Any) -> None:
    """A thread for each vector of results: `folds`, each of which reads those before it, stay in registers; `store` writes.

    All blocks have the axes of the result; `store` has no others.
    """
    width = min(vector_width(schedule, block) for block in (store, *folds))
    loops = list(schedule.get_loops(store)) or [schedule.add_unit_loop(store)]
    if width > 1:
        *outer, last = loops
        part, lane = schedule.split(last, [None, width])
        loops = [*outer, part]
    thread = share_out_evenly(schedule, loops)
    for fold in reversed(folds):
        schedule.set_scope(fold, 0, "local")
        schedule.compute_at(fold, thread, preserve_unit_loops=True)
        results, reduced = spatial_and_reduced(schedule, fold)
        if width > 1:
            schedule.reorder(*reduced, results[-1])
            schedule.vectorize(results[-1])
        if product(extent(schedule, loop) for loop in reduced) <= _UNROLLED:
            for loop in reduced:
                schedule.unroll(loop)
        schedule.decompose_reduction(fold, reduced[0])
    if width > 1:
        schedule.vectorize(lane)
