"""Reductions on GPUs: rows by warps, columns by blocks with threads along the channels, long ones in two stages.

A long reduction with few results is cut into parts whose sums other blocks of threads compute; a second kernel adds them up. So
are its threads always the same, and the order of the sums too.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.schedules.base import REDUCTION, Block, KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.loops import extent, largest_divisor, product, spatial_and_reduced
from dlc.compiler.codegen.schedules.cpu.reduction import innermost_is_reduced
from dlc.compiler.codegen.schedules.cuda.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cuda.folding import fold_in_registers
from dlc.compiler.codegen.schedules.cuda.threads import THREADS, VECTOR, WARP

_FILLED = 2**17
"""Threads that keep a large GPU busy (132 multiprocessors, 1024 threads on each)."""

_WORTH_A_THREAD = 16
"""Elements that a thread should add up before sums of threads are added."""

_MOST_PARTS = 512


class ReductionRule(ScheduleRule):
    """Gives each fold a grid of its own; the element-wise blocks behind the last one run in its threads."""

    anchors: ClassVar[frozenset[str]] = frozenset({REDUCTION})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: Any) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        maps = inline(schedule, tuple(b for b in blocks if not b.reduces))
        behind = _behind(schedule, blocks, maps)
        for block in maps:
            if not schedule.get_loops(schedule.get_sblock(block.name)):
                schedule.add_unit_loop(
                    schedule.get_sblock(block.name)
                )  # rfactor refuses blocks without a loop beside it
        for block in (b for b in blocks if b.reduces):
            handle = schedule.get_sblock(block.name)
            store = schedule.get_sblock(behind.name) if behind is not None and block == blocks.anchor else None
            schedule_reduction(schedule, handle, store)
        for block in maps:
            if block != behind:
                schedule_map(schedule, schedule.get_sblock(block.name))
        return True


def _behind(schedule: Schedule, blocks: KernelBlocks, maps: tuple[Block, ...]) -> Block | None:
    """The block that makes the result of the anchor's sums, if it is alone and has their shape."""
    if blocks.anchor.writes_result or len(maps) != 1 or maps[0] not in blocks.epilogue:
        return None
    spatial, _ = spatial_and_reduced(schedule, schedule.get_sblock(blocks.anchor.name))
    loops = schedule.get_loops(schedule.get_sblock(maps[0].name))
    same = [extent(schedule, a) for a in spatial] == [extent(schedule, b) for b in loops]
    return maps[0] if same else None


def schedule_reduction(schedule: Schedule, block: Any, store: Any | None) -> None:
    """Gives one reducing block its threads, and `store`, which makes the results of its sums, the same ones."""
    spatial, reduced = spatial_and_reduced(schedule, block)
    results = product(extent(schedule, loop) for loop in spatial)
    length = (
        None if any(extent(schedule, r) is None for r in reduced) else product(extent(schedule, r) for r in reduced)
    )
    by_rows = not spatial or innermost_is_reduced(schedule, block)
    if not by_rows and (results >= _FILLED or (length is not None and length < 2 * _WORTH_A_THREAD)):
        fold_in_registers(schedule, [block], store or schedule.cache_write(block, 0, "local"))
        return
    symbolic = any(extent(schedule, loop) is None for loop in spatial)
    parts = 1 if length is None or symbolic else _parts(results, length, by_rows)
    if parts > 1 and length is not None:
        part, _ = schedule.split(schedule.fuse(*reduced), [parts, None])
        partial = schedule.rfactor(part, 0)
        _schedule(schedule, partial, None, by_rows, length // parts, parts=True)
        length = parts
        by_rows = not spatial
    _schedule(schedule, block, store, by_rows, length)


def _parts(results: int, length: int, by_rows: bool) -> int:
    """Into how many parts a reduction is cut, 1 for not at all: a divisor of its length."""
    threads = THREADS if by_rows else THREADS // WARP
    wanted = min(_FILLED // (results * threads), length // (threads * _WORTH_A_THREAD), _MOST_PARTS)
    return largest_divisor(length, wanted) if wanted > 1 else 1


def _schedule(
    schedule: Schedule, block: Any, store: Any | None, by_rows: bool, length: int | None, parts: bool = False
) -> None:
    """Threads for one fold: along its results and, beside each other, for the same result. `parts`: its last axis of results,
    made by cutting, is its slowest."""
    if not spatial_and_reduced(schedule, block)[0]:
        schedule.add_unit_loop(spatial_and_reduced(schedule, block)[1][0])
    spatial, reduced = spatial_and_reduced(schedule, block)
    spatial = [spatial[-1], *spatial[:-1]] if parts else spatial
    schedule.reorder(*spatial, *reduced)
    count, inner = product(extent(schedule, s) for s in spatial), extent(schedule, spatial[-1])
    results, turns = schedule.fuse(*spatial), schedule.fuse(*reduced)
    if by_rows:
        across = min(THREADS, WARP * _power_of_two((length or THREADS * _WORTH_A_THREAD) // (WARP * 4)))
        beside = 1 if extent(schedule, results) is None else largest_divisor(count, THREADS // across)
    else:
        beside = _columns(inner, length)
        across = min(_power_of_two(THREADS // beside), _power_of_two(length or THREADS))
    kinds = ("threadIdx.y", "threadIdx.x") if by_rows else ("threadIdx.x", "threadIdx.y")
    schedule.split(results, [None, beside])
    _, lane = schedule.split(turns, [None, across])
    alone = schedule.rfactor(lane, 0)
    place, column, turns, lane = schedule.get_loops(alone)
    schedule.reorder(place, column, lane, turns)
    schedule.bind(place, "blockIdx.x")
    schedule.bind(column, kinds[0])
    schedule.bind(lane, kinds[1])
    schedule.annotate(lane, "pragma_auto_unroll_max_step", 16)
    schedule.annotate(lane, "pragma_unroll_explicit", 0)
    schedule.set_scope(alone, 0, "local")
    schedule.decompose_reduction(alone, turns)
    schedule.reverse_compute_at(block, place, preserve_unit_loops=True)
    _, lane, *columns = schedule.get_loops(block)
    column = schedule.fuse(*columns) if columns else schedule.add_unit_loop(lane)
    schedule.reorder(column, lane)
    schedule.bind(column, kinds[0])
    schedule.bind(lane, kinds[1])
    if store is None:
        return
    # each element by one thread: it may read what it overwrites
    schedule.set_scope(block, 0, "shared")
    schedule.reverse_compute_at(store, place, preserve_unit_loops=True)
    _, *columns = schedule.get_loops(store)
    column = schedule.fuse(*columns) if columns else schedule.add_unit_loop(store)
    extents = [None, across, beside] if not by_rows else [None, beside, across]
    _, y, x = schedule.split(column, extents)
    schedule.bind(y, "threadIdx.y")
    schedule.bind(x, "threadIdx.x")


def _columns(count: int | None, length: int | None) -> int:
    """How many neighbouring columns a block takes: 32 bytes of each row are read at once, more is better for long sums, fewer
    leave more threads to a short one."""
    if count is None:
        return 1
    few = largest_divisor(count, WARP // VECTOR)
    short = length is not None and length <= _MOST_PARTS
    return few if short and few >= VECTOR else largest_divisor(count, 2 * WARP)


def _power_of_two(number: int) -> int:
    """The largest power of two that is at most `number` (at least 1)."""
    return 1 << (max(number, 1).bit_length() - 1)
