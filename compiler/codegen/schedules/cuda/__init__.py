"""Schedules for NVIDIA GPUs: rules of our own, TVM's (dlight), and a plain one for what none of them takes."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir import dlight as dl

from dlc.compiler.codegen.function import blocks_of
from dlc.compiler.codegen.schedules.cuda.elementwise import ElementwiseRule
from dlc.compiler.codegen.schedules.cuda.pooling import PoolRule
from dlc.compiler.codegen.schedules.cuda.reduction import ReductionRule
from dlc.compiler.codegen.target import CudaTarget
from dlc.compiler.codegen.unchecked import UncheckedSchedule

THREADS = 256
"""Threads of one block in the plain rule."""


def schedule_function(function: Any, target: CudaTarget) -> tuple[Any, str]:
    """The function with every loop bound to blocks and threads, and the name of the rule that did it.

    Raises AssertionError, with the function's text, where a loop nest is left without threads.
    """
    scheduled, name = _by_own_rule(function, target) or _by_others(function, target)
    if not uses_threads_only(scheduled):
        raise AssertionError(f"no schedule rule for CUDA takes\n{function.script()}")
    return scheduled, name


def rules() -> tuple[PoolRule | ReductionRule | ElementwiseRule, ...]:
    """The rules of our own, in the order in which they are tried."""
    return PoolRule(), ReductionRule(), ElementwiseRule()


def _by_own_rule(function: Any, target: CudaTarget) -> tuple[Any, str] | None:
    schedule = UncheckedSchedule(function)
    blocks = blocks_of(schedule)
    for rule in rules():
        if blocks.kind in rule.anchors and rule.apply(schedule, blocks, target):
            return schedule.mod["main"], type(rule).__name__
    return None


def _by_others(function: Any, target: CudaTarget) -> tuple[Any, str]:
    with target.tvm:
        for rule in (dl.gpu.Matmul(), dl.gpu.GEMV(), dl.gpu.Reduction(), dl.gpu.GeneralReduction(), dl.gpu.Fallback()):
            scheduled = _try(rule, function, target)
            if scheduled is not None:
                return scheduled, type(rule).__name__
        schedule = UncheckedSchedule(function)
        _bind_all(schedule)
    return schedule.mod["main"], "OneThreadPerResult"


def _try(rule: Any, function: Any, target: CudaTarget) -> Any | None:
    """What a rule of dlight makes of a function; None where it refuses it, fails, or leaves loops without threads."""
    try:
        schedule = rule.apply(function, target.tvm, False)
    except Exception:  # its rules assume shapes of common networks, and fail with errors of many types on others
        return None
    if schedule is None or isinstance(schedule, list):
        return None
    scheduled = schedule.mod["main"]
    return scheduled if uses_threads_only(scheduled) else None


def _bind_all(schedule: Schedule) -> None:
    """One thread for each result of each block; reductions run within the thread."""
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        kinds = [int(axis.iter_type) for axis in schedule.get(block).iter_vars]
        loops = schedule.get_loops(block)
        spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == 0] or [
            schedule.add_unit_loop(block)
        ]
        reduced = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != 0]
        schedule.reorder(*spatial, *reduced)
        blocks, threads = schedule.split(schedule.fuse(*spatial), [None, THREADS])
        schedule.bind(blocks, "blockIdx.x")
        schedule.bind(threads, "threadIdx.x")


def uses_threads_only(function: Any) -> bool:
    """Whether every computation of a scheduled function stands inside a loop that is bound to threads, and no such loop in
    another: the processor would launch a kernel for each of its rounds."""
    outside: list[Any] = []

    def visit(statement: Any) -> None:
        if isinstance(statement, tirx.For) and statement.thread_binding is not None:
            return
        if isinstance(statement, tirx.BufferStore) or (
            isinstance(statement, tirx.For) and not _is_one(statement.extent)
        ):
            outside.append(statement)
            return
        for child in _children(statement):
            visit(child)

    visit(function.body)
    return not outside


def _is_one(extent: Any) -> bool:
    return isinstance(extent, tirx.IntImm) and int(extent) == 1


def _children(statement: Any) -> list[Any]:
    found = [getattr(statement, name, None) for name in ("block", "body", "init", "then_case", "else_case")]
    sequence = getattr(statement, "seq", None)
    return [c for c in found if c is not None] + (list(sequence) if sequence is not None else [])
