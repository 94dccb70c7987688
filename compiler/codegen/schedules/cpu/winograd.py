"""Winograd convolutions: tiles transformed, multiplied and transformed back in one task, between them in its core's caches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.prefetch import LINE
from dlc.compiler.codegen.schedules.base import KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cpu.loops import WORTH_SHARING, extent, largest_divisor, product
from dlc.compiler.codegen.target import CpuTarget
from dlc.compiler.passes.winograd_tasks import Tasks

LINES = 1024
"""float32 numbers after which lines fall into the same set of the level 1 cache again."""


class WinogradRule(ScheduleRule):
    """Convolutions by tiles, with element-wise blocks behind them; `Tasks` in the anchor's attributes say how they are cut.

    A task transforms its strips of the image, a few channels at a time, into tiles that stay in the level 2 cache. For each
    group of blocks of output channels it sums products of a panel of tiles in registers, then transforms the sums of one
    tile and one vector of channels back and applies what is fused behind.
    """

    anchors: ClassVar[frozenset[str]] = frozenset({"winograd"})
    specializes_batch_one: ClassVar[bool] = True

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        parts = {str(b.attributes["dlc.part"]): b.name for b in blocks if "dlc.part" in b.attributes}
        names = [b.name for b in blocks]
        last = inline(schedule, [b for b in blocks if names.index(b.name) > names.index(parts["back"])])
        attributes = blocks.anchor.attributes
        tasks = Tasks.of(attributes)
        tile, block = int(attributes["dlc.tile"]), int(attributes["dlc.block"])
        if len(last) != 1:
            raise AssertionError(f"a Winograd convolution writes one result, not {len(last)}")
        task, group = _schedule_results(schedule, last[0].name, parts, tasks, tile, block, target)
        products = schedule.get_sblock(blocks.anchor.name)
        lanes = largest_divisor(block, target.lanes)
        if "sums" in parts:
            sums = schedule.get_sblock(parts["sums"])
            schedule.compute_at(sums, group, preserve_unit_loops=True)
            starts = _schedule_sums(schedule, parts, products, sums, tasks, lanes)
        else:
            schedule.compute_at(products, group, preserve_unit_loops=True)
            starts = _schedule_products(schedule, products, tasks, lanes)
        _schedule_tiles(schedule, parts, task, tasks)
        if tasks.shared and extent(schedule, task) != 1:
            schedule.parallel(task)
        for block, first, own in starts:
            flatten(schedule, schedule.decompose_reduction(block, first), own)
        return True


def _schedule_results(
    schedule: Schedule,
    last: str,
    parts: Mapping[str, str],
    tasks: Tasks,
    tile: int,
    block: int,
    target: CpuTarget,
) -> tuple[Any, Any]:
    """The last block's loops, and the way back of one tile inside them. Returns the loops of tasks and of groups."""
    store = schedule.get_sblock(last)
    n, y, x, o = schedule.get_loops(store)
    lanes, exact = largest_divisor(block, target.lanes), (extent(schedule, o) or 0) % block == 0
    n_task, n_tile = schedule.split(n, [None, tasks.images])
    y_task, y_tile, y_in = schedule.split(y, [None, tasks.rows, tile])
    x_task, x_tile, x_in = schedule.split(x, [None, tasks.wide, tile])
    o_task, o_group, o_block, o_vector, o_lane = schedule.split(
        o, [None, tasks.blocks // tasks.group, tasks.group, block // lanes, lanes]
    )
    inner = (n_tile, y_tile, x_tile, o_block, o_vector, y_in, x_in, o_lane)
    schedule.reorder(n_task, y_task, x_task, o_task, o_group, *inner)
    task = schedule.fuse(n_task, y_task, x_task, o_task)
    if exact:  # else a condition on every element stands in the way
        schedule.vectorize(o_lane)
        schedule.unroll(x_in)
        schedule.unroll(y_in)
    back = schedule.get_sblock(parts["back"])
    schedule.compute_at(back, o_vector, preserve_unit_loops=True)
    place_halves(schedule, parts, "back_halves", schedule.get_loops(back)[-7])
    up = schedule.get_sblock(parts["up"])
    schedule.compute_at(up, o_vector, preserve_unit_loops=True)
    row, place = schedule.get_loops(up)[-7:-5]
    schedule.reorder(place, row)
    place_halves(schedule, parts, "up_halves", place)
    for own in (back, up):
        schedule.set_scope(own, 0, "local")
        flatten(schedule, own, 7)
    return task, o_group


def _schedule_tiles(schedule: Schedule, parts: Mapping[str, str], task: Any, tasks: Tasks) -> None:
    """The image's way to transformed tiles: some channels of a strip at a time, first down its columns, then across."""
    across = schedule.get_sblock(parts["across"])
    schedule.compute_at(across, task, preserve_unit_loops=True)
    i, j, chunk, n, y, x, lane = schedule.get_loops(across)[-7:]
    panel, x = schedule.split(x, [None, tasks.columns])
    schedule.reorder(n, y, panel, chunk, x, i, j, lane)
    place_halves(schedule, parts, "across_halves", i)
    down = schedule.get_sblock(parts["down"])
    schedule.compute_at(down, chunk, preserve_unit_loops=True)
    i, _, _, _, x, lane = schedule.get_loops(down)[-6:]
    schedule.reorder(x, i, lane)
    place_halves(schedule, parts, "down_halves", x)
    strip = schedule.get_sblock(parts["strip"])
    schedule.compute_at(strip, x, preserve_unit_loops=True)
    schedule.set_scope(strip, 0, "local")
    for block, own in ((strip, 6), (down, 2), (across, 3)):
        flatten(schedule, block, own)


def _schedule_products(schedule: Schedule, products: Any, tasks: Tasks, lanes: int) -> list[tuple[Any, Any, int]]:
    """The sums over input channels: a panel of tiles beside one block of channels in registers.

    Returns what is to be set to zero: a block, the first loop of its sum, and its loops inside.
    """
    i, j, o, n, y, x, lane, outer, inner = schedule.get_loops(products)[-9:]
    n, n_tile = schedule.split(n, [None, tasks.panel_images])
    y, y_tile = schedule.split(y, [None, tasks.panel_rows])
    x, x_tile = schedule.split(x, [None, tasks.columns])
    vectors, lane = schedule.split(lane, [None, lanes])
    schedule.reorder(i, j, o, n, y, x, outer, inner, n_tile, y_tile, x_tile, vectors, lane)
    store = schedule.cache_write(products, 0, "local")
    schedule.reverse_compute_at(store, x, preserve_unit_loops=True)
    schedule.split(schedule.get_loops(store)[-1], [None, lanes])
    flatten(schedule, products, 5)
    flatten(schedule, store, 8)
    return [(products, outer, 5)]


def _schedule_sums(
    schedule: Schedule, parts: Mapping[str, str], products: Any, sums: Any, tasks: Tasks, lanes: int
) -> list[tuple[Any, Any, int]]:
    """The sums over input channels, weights transformed on the way: a row of places of some channels at a time.

    Returns what `_schedule_products` does.
    """
    i, j, o, n, y, x, lane, q = schedule.get_loops(sums)[-8:]
    n, n_tile = schedule.split(n, [None, tasks.panel_images])
    y, y_tile = schedule.split(y, [None, tasks.panel_rows])
    x, x_tile = schedule.split(x, [None, tasks.columns])
    vectors, lane = schedule.split(lane, [None, lanes])
    schedule.reorder(o, i, q, j, n, y, x, n_tile, y_tile, x_tile, vectors, lane)
    schedule.compute_at(products, x, preserve_unit_loops=True)
    schedule.set_scope(products, 0, "local")
    *spatial, own, outer, inner = schedule.get_loops(products)[-10:]
    own_vectors, own = schedule.split(own, [None, lanes])
    schedule.reorder(outer, inner, *spatial, own_vectors, own)
    weights = schedule.get_sblock(parts["filter"])
    schedule.compute_at(weights, q, preserve_unit_loops=True)
    own_i, own_j, own_o, channel, own = schedule.get_loops(weights)[-5:]
    own_vectors, own = schedule.split(own, [None, lanes])
    schedule.reorder(own_i, own_o, channel, own_vectors, own_j, own)
    place_halves(schedule, parts, "filter_halves", own_vectors)
    down = schedule.get_sblock(parts["filter_down"])
    schedule.compute_at(down, own_vectors, preserve_unit_loops=True)
    schedule.set_scope(down, 0, "local")
    schedule.storage_align(
        weights, 0, 1, LINES, LINES // 4 + LINE
    )  # else all places of a channel lie in one set of the cache
    flatten(schedule, down, 5)
    flatten(schedule, weights, 2)
    flatten(schedule, products, 9)
    flatten(schedule, sums, 5)
    return [(products, outer, 9), (sums, q, 5)]


def place_halves(schedule: Schedule, parts: Mapping[str, str], name: str, loop: Any) -> None:
    """Puts the shared sums of a transform, if it has any, into registers inside a loop of it."""
    if name not in parts:
        return
    block = schedule.get_sblock(parts[name])
    before = len(schedule.get_loops(block))
    schedule.compute_at(block, loop, preserve_unit_loops=True)
    schedule.set_scope(block, 0, "local")
    flatten(schedule, block, before)


def flatten(schedule: Schedule, block: Any, count: int) -> None:
    """Vectorises the innermost loop of a block and unrolls those around it, `count` loops in all."""
    loops: Sequence[Any] = schedule.get_loops(block)[-count:]
    schedule.vectorize(loops[-1])
    for loop in loops[:-1]:
        schedule.unroll(loop)


class WinogradWeightsRule(ScheduleRule):
    """Transformed weights: the taps of one vector of output channels are read once, and all places written."""

    anchors: ClassVar[frozenset[str]] = frozenset({"winograd_weights"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        parts = {str(b.attributes["dlc.part"]): b.name for b in blocks if "dlc.part" in b.attributes}
        main = schedule.get_sblock(blocks.anchor.name)
        schedule.compute_inline(schedule.get_sblock(parts["across"]))
        place, o, i, lane = schedule.get_loops(main)
        extents = [extent(schedule, loop) or 1 for loop in (place, o, i, lane)]
        lanes, lane = schedule.split(lane, [None, largest_divisor(extents[3], target.lanes)])
        schedule.reorder(o, i, lanes, place, lane)
        task = schedule.fuse(o, i)
        schedule.vectorize(lane)
        schedule.unroll(place)
        for name in ("across_halves", "down", "down_halves", "strip"):
            if name not in parts:
                continue
            block = schedule.get_sblock(parts[name])
            own = len(schedule.get_loops(block))
            schedule.compute_at(block, lanes, preserve_unit_loops=True)
            schedule.set_scope(block, 0, "local")
            flatten(schedule, block, own)
        if product(extents) * 0.05 > WORTH_SHARING:
            schedule.parallel(task)
        for block in inline(schedule, blocks.epilogue):
            schedule_map(schedule, block, target)
        return True
