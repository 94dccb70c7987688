"""The gradient of a convolution's weight by tiles: tiles transformed and their products summed while both stay in a core's cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.prefetch import LINE
from dlc.compiler.codegen.schedules.base import Block, KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cpu.loops import (
    WORTH_SHARING,
    extent,
    largest_divisor,
    product,
    spatial_and_reduced,
    vectorize,
)
from dlc.compiler.codegen.schedules.cpu.tiles import most_columns
from dlc.compiler.codegen.schedules.cpu.winograd import flatten, place_halves
from dlc.compiler.codegen.target import CpuTarget
from dlc.compiler.passes.winograd_gradient_tasks import GradientTasks

APART = 4 * LINE, LINE
"""Distance of two places of a tile, in numbers: so many beyond a multiple. A tile's places are written one after the other;
at powers of two they would all fall into the same few lines of the level 1 cache."""


class WinogradGradientRule(ScheduleRule):
    """Sums over tiles, in an order that does not depend on the number of threads; `GradientTasks` in the anchor's attributes
    say how they are cut.

    A task owns the transformed sums of some weights. Some tiles at a time it transforms what it needs of the image and of the
    gradient and adds their products, tiles of weights in registers; at the end it transforms the sums back and applies
    what is fused behind.
    """

    anchors: ClassVar[frozenset[str]] = frozenset({"winograd_gradient"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        parts = {str(b.attributes["dlc.part"]): b.name for b in blocks if "dlc.part" in b.attributes}
        tasks = GradientTasks.of(blocks.anchor.attributes)
        names = [b.name for b in blocks]
        behind = [b for b in blocks if names.index(b.name) > names.index(parts["back"])]
        if tasks.parts > 1:
            last = inline(schedule, [b for b in behind if b.name != parts["parts"]])
            task = _schedule_partial_sums(schedule, parts, tasks, target)
        else:
            last = inline(schedule, behind)
            fitting = next((b for b in last if _follows_weight(schedule, b, blocks.anchor)), None)
            assert fitting is not None, "a weight's gradient has the weight's shape"
            task = _schedule_weights(schedule, fitting, parts, tasks, target)
            last = tuple(b for b in last if b != fitting)
        products = schedule.get_sblock(blocks.anchor.name)
        schedule.compute_at(products, task, preserve_unit_loops=True)
        turn = _schedule_products(schedule, products, tasks, target)
        _schedule_tiles(schedule, parts, "", turn)
        _schedule_tiles(schedule, parts, "own_", turn)
        if extent(schedule, task) != 1:
            schedule.parallel(task)
        schedule.decompose_reduction(products, turn)
        if tasks.parts > 1:
            schedule_total(schedule, parts["parts"], target)
        for block in last:
            schedule_map(schedule, block, target)
        return True


def _follows_weight(schedule: Schedule, block: Block, anchor: Block) -> bool:
    return len(schedule.get_loops(schedule.get_sblock(block.name))) == 5


def _schedule_weights(
    schedule: Schedule, last: Block, parts: Mapping[str, str], tasks: GradientTasks, target: CpuTarget
) -> Any:
    """The last block's loops, and the way back of one vector of weights inside them. Returns the loop of tasks."""
    store = schedule.get_sblock(last.name)
    o, i, j, c, lane = schedule.get_loops(store)
    width = largest_divisor(extent(schedule, lane) or 1, target.lanes)
    o_task, o = schedule.split(o, [None, tasks.blocks])
    c_task, c = schedule.split(c, [None, tasks.inputs])
    vector, lane = schedule.split(lane, [None, width])
    schedule.reorder(o_task, c_task, o, c, vector, i, j, lane)
    task = schedule.fuse(o_task, c_task)
    schedule.vectorize(lane)
    schedule.unroll(j)
    schedule.unroll(i)
    back = schedule.get_sblock(parts["back"])
    schedule.compute_at(back, vector, preserve_unit_loops=True)
    schedule.set_scope(back, 0, "local")
    _schedule_back(schedule, parts, vector, 6)
    return task


def _schedule_partial_sums(
    schedule: Schedule, parts: Mapping[str, str], tasks: GradientTasks, target: CpuTarget
) -> Any:
    """The way back of each part's sums. Returns the loop of tasks."""
    back = schedule.get_sblock(parts["back"])
    i, j, part, o, c, lane = schedule.get_loops(back)
    width = largest_divisor(extent(schedule, lane) or 1, target.lanes)
    o_task, o = schedule.split(o, [None, tasks.blocks])
    c_task, c = schedule.split(c, [None, tasks.inputs])
    vector, lane = schedule.split(lane, [None, width])
    schedule.reorder(part, o_task, c_task, o, c, vector, i, j, lane)
    task = schedule.fuse(part, o_task, c_task)
    _schedule_back(schedule, parts, vector, 3)
    return task


def _schedule_back(schedule: Schedule, parts: Mapping[str, str], vector: Any, own: int) -> None:
    """The two steps of the way back, in registers, inside the loop over vectors of weights; `own` counts the last one's loops."""
    back = schedule.get_sblock(parts["back"])
    place_halves(schedule, parts, "back_halves", schedule.get_loops(back)[-own])
    up = schedule.get_sblock(parts["up"])
    schedule.compute_at(up, vector, preserve_unit_loops=True)
    row, place = schedule.get_loops(up)[-6:-4]
    schedule.reorder(place, row)
    place_halves(schedule, parts, "up_halves", place)
    schedule.set_scope(up, 0, "local")
    flatten(schedule, up, 6)
    flatten(schedule, back, own)


def _schedule_products(schedule: Schedule, products: Any, tasks: GradientTasks, target: CpuTarget) -> Any:
    """Tiles of weights in registers while tiles of images go by. Returns the loop over turns of transforming and adding up."""
    (i, j, part, o, c, lane), (n, y, z) = (
        loops[-k:] for loops, k in zip(spatial_and_reduced(schedule, products), (6, 3), strict=True)
    )
    width = extent(schedule, lane) or 1
    most = most_columns(target, width)
    c, c_tile = schedule.split(c, [None, largest_divisor(tasks.inputs, most)])
    n, n_in = schedule.split(n, [None, tasks.images])
    y, y_in = schedule.split(y, [None, tasks.rows])
    schedule.reorder(part, n, y, i, j, o, c, n_in, y_in, z, c_tile, lane)
    turn = schedule.fuse(n, y)
    schedule.fuse(n_in, y_in, z)
    schedule.unroll(c_tile)
    vectorize(schedule, lane, target.lanes)
    return turn


def _schedule_tiles(schedule: Schedule, parts: Mapping[str, str], name: str, turn: Any) -> None:
    """The way of an image to transformed tiles, a vector of channels of a strip at a time: down its columns, then across."""
    across = schedule.get_sblock(parts[name + "across"])
    schedule.compute_at(across, turn, preserve_unit_loops=True)
    schedule.storage_align(across, 0, 1, *APART)
    i, j, chunk, n, y, x, lane = schedule.get_loops(across)[-7:]
    schedule.reorder(n, y, chunk, x, i, j, lane)
    place_halves(schedule, parts, name + "across_halves", i)
    down = schedule.get_sblock(parts[name + "down"])
    schedule.compute_at(down, chunk, preserve_unit_loops=True)
    i, _, _, _, x, lane = schedule.get_loops(down)[-6:]
    schedule.reorder(x, i, lane)
    place_halves(schedule, parts, name + "down_halves", x)
    strip = schedule.get_sblock(parts[name + "strip"])
    schedule.compute_at(strip, x, preserve_unit_loops=True)
    schedule.set_scope(strip, 0, "local")
    for block, own in ((strip, 6), (down, 2), (across, 3)):
        flatten(schedule, block, own)


def schedule_total(schedule: Schedule, name: str, target: CpuTarget) -> None:
    """The parts' sums added up, in the order of the parts."""
    block = schedule.get_sblock(name)
    spatial, reduced = spatial_and_reduced(schedule, block)
    work = product(extent(schedule, loop) for loop in (*spatial, *reduced))
    schedule.reorder(*spatial[:-1], *reduced, spatial[-1])
    vectorize(schedule, spatial[-1], target.lanes)
    if work * 0.05 > WORTH_SHARING:
        schedule.parallel(schedule.fuse(*spatial[:-1]))
    schedule.decompose_reduction(block, reduced[0])
