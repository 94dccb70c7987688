"""Convolutions: tiles of columns by output channels in registers, the padded input copied once per task."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.choices import ConvolutionCut, Cut
from dlc.compiler.codegen.prefetch import LINE, mark_results, mark_streamed_weights
from dlc.compiler.codegen.schedules.base import Block, KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.direct_tasks import Shape, choose_tasks
from dlc.compiler.codegen.schedules.cpu.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cpu.loops import (
    WORTH_SHARING,
    extent,
    largest_divisor,
    loads,
    product,
    spatial_and_reduced,
    static,
    vectorize,
)
from dlc.compiler.codegen.schedules.cpu.tiles import most_columns
from dlc.compiler.codegen.target import CpuTarget

MOST_TILES = 64
"""Tiles that use a block of weights, up to which it pays to bring the next block early."""


_ALONE = "dlc.differs_alone"


class ConvolutionRule(ScheduleRule):
    """Convolutions and their input gradients, with element-wise blocks behind them.

    The tile of columns and channels that the lowering rounded up to stays in registers while kernel rows, kernel columns
    and input channels are summed, and what is fused behind is applied when it leaves them. A task covers some rows of
    some blocks of channels of one image.
    """

    anchors: ClassVar[frozenset[str]] = frozenset({"conv2d", "conv2d_phases"})
    specializes_batch_one: ClassVar[bool] = True

    def differs_alone(self, schedule: Schedule) -> bool:
        """Where one image is better cut in another way than many are."""
        return _ALONE in schedule.get(schedule.get_sblock("root")).annotations

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kinds."""
        for block in blocks.where(part="weights"):
            schedule_repacking(schedule, block, target)
        spread = [b for b in blocks.prologue if b.attributes.get("dlc.part") == "padding"]
        parts = blocks.where(part="convolution")
        names = [b.name for b in blocks]
        behind = [b for b in blocks if names.index(b.name) > names.index(parts[-1].name)]
        last = inline(schedule, behind)
        for part in parts:
            own = _padding_of(schedule, part, spread)
            if len(parts) == 1 and len(last) == 1 and _same_extents(schedule, part, last[0]):
                schedule_convolution(schedule, part, own, last[0], target, blocks.cut)
                return True
            schedule_convolution(schedule, part, own, None, target, blocks.cut)
        for block in last:
            schedule_map(schedule, block, target)
        return True


def _padding_of(schedule: Schedule, part: Block, candidates: list[Block]) -> Block | None:
    """The padded copy that a convolution reads; a copy behind it (a spread gradient) is inlined."""
    producers = {schedule.get(p).name_hint for p in schedule.get_producers(schedule.get_sblock(part.name))}
    own = next((b for b in candidates if b.name in producers), None)
    if own is not None:
        for producer in schedule.get_producers(schedule.get_sblock(own.name)):
            schedule.compute_inline(producer)
    return own


def _same_extents(schedule: Schedule, part: Block, last: Block) -> bool:
    """Whether the last block has a pixel for each pixel of the convolution, but for those that rounding up added."""
    of = [extent(schedule, loop) for loop in spatial_and_reduced(schedule, schedule.get_sblock(part.name))[0]]
    own = [extent(schedule, loop) for loop in schedule.get_loops(schedule.get_sblock(last.name))]
    if len(of) != len(own) or of[:2] != own[:2]:
        return False
    columns, block = int(part.attributes["dlc.columns"]), int(part.attributes["dlc.block"])
    fold = int(part.attributes["dlc.fold"])
    if fold > 1:
        return own[2] == (of[2] or 0) * fold and of[3] == block
    return all(
        a is not None and b is not None and a == -(-b // tile) * tile
        for a, b, tile in zip(of[2:], own[2:], (columns, block), strict=True)
    )


def schedule_convolution(
    schedule: Schedule,
    part: Block,
    padding: Block | None,
    last: Block | None,
    target: CpuTarget,
    cut: Cut | None = None,
) -> None:
    """Gives one convolution its loops, together with the copy of its input and the last block behind it, if any.

    They are cut as the model says, or by `cut`.
    """
    block, columns = int(part.attributes["dlc.block"]), int(part.attributes["dlc.columns"])
    fold = int(part.attributes["dlc.fold"]) if last is not None else 1
    main = schedule.get_sblock(part.name)
    spatial, reduced = spatial_and_reduced(schedule, main)
    batch, rows, wide, deep = (extent(schedule, loop) for loop in spatial)
    kernel_rows, kernel_columns, inputs = (extent(schedule, loop) or 1 for loop in reduced)
    if last is None:
        store = schedule.cache_write(main, 0, "local")
    else:
        store = schedule.get_sblock(last.name)
        schedule.set_scope(main, 0, "local")
    image_row, halo = _image_bytes(schedule, main, rows or 1, kernel_rows)
    shape = Shape(
        batch,
        rows or 1,
        wide or 1,
        (deep or 1) // block,
        block,
        kernel_rows * kernel_columns,
        inputs,
        columns,
        most_columns(target, block),
        image_row,
        halo,
        copied=padding is not None,
        added=_added(schedule, store) if last is not None else 0,
    )
    if isinstance(cut, ConvolutionCut):
        task_rows, task_blocks, tile_rows, shared = cut.rows, cut.blocks, cut.high, cut.shared
    else:
        tasks = choose_tasks(shape, target.machine)
        task_rows, task_blocks = tasks.rows, tasks.blocks
        tile_rows, shared = shape.tile_rows(task_rows), True
        if tasks.differs_alone:
            schedule.annotate(schedule.get_sblock("root"), _ALONE, 1)

    n, y, x, o = schedule.get_loops(store)
    o_outer, o_lanes = split_channels(schedule, o, block, target)
    x_outer, x_tile, x_fold = schedule.split(x, [None, columns, fold])
    y_task, y_outer, y_tile = schedule.split(y, [None, task_rows // tile_rows, tile_rows])
    o_task, o_outer = schedule.split(o_outer, [None, task_blocks])
    schedule.reorder(n, y_task, o_task, o_outer, y_outer, x_outer, y_tile, x_tile, x_fold, *o_lanes)
    o_lanes[0] = schedule.fuse(x_fold, o_lanes[0])
    task = schedule.fuse(n, y_task, o_task)
    schedule.compute_at(main, x_outer, preserve_unit_loops=True)
    outside = 4  # task, blocks, rows, tiles
    inner_spatial, reduced = spatial_and_reduced(schedule, main)
    inner_spatial = inner_spatial[outside:]
    schedule.reorder(*reduced, *inner_spatial)
    if padding is not None:
        copy = schedule.get_sblock(padding.name)
        schedule.compute_at(copy, task, preserve_unit_loops=True)
        schedule_copy(schedule, copy)
    if shared and extent(schedule, task) != 1:
        schedule.parallel(task)
    for loop in inner_spatial[:-1]:
        schedule.unroll(loop)
    vectorize(schedule, inner_spatial[-1], target.lanes, padded=True)
    vectorize_channels(schedule, o_lanes, target)
    schedule.unroll(x_tile)
    schedule.unroll(y_tile)
    simple = last is not None and tile_rows == 1 and fold == 1 and len(o_lanes) == 1
    large = 4 * (rows or 1) * (wide or 1) * (deep or 1) > target.l2 // 4
    results = last.name if last is not None and simple and large else ""
    prefetch(schedule, part, [y_outer, x_outer], reduced, results)
    schedule.decompose_reduction(main, reduced[0])


def _image_bytes(schedule: Schedule, main: Any, rows: int, kernel: int) -> tuple[float, float]:
    """Bytes of the image that each row of results needs, and those that the first needs beyond.

    A kernel of fewer rows than the stride passes over rows, and columns, of the image.
    """
    body = schedule.get(main).body
    image = next(load.source for load in loads(body.value) if not load.source.same_as(body.buffer))
    high, wide, deep = (static(e) or 1 for e in list(image.ty.shape)[1:])
    row, stride = 4.0 * wide * deep, max(1, high // rows)
    if kernel < stride:
        return row * kernel * kernel / stride, 0.0
    return row * stride, row * max(0, high - stride * rows)


def _added(schedule: Schedule, last: Any) -> int:
    """Tensors of an image's rank that the last block reads beside the sums."""
    found = [load.source for load in loads(schedule.get(last).body.value) if len(load.indices) == 4]
    return len({hash(source) for source in found}) - 1


def prefetch(schedule: Schedule, part: Block, tiles: list[Any], reduced: list[Any], results: str) -> None:
    """Has products bring the next block's weights near, and the lines of the tile that the block named `results` writes.

    Every few products name one line of each. Where hundreds of tiles use a block of weights, waiting for it does not count.
    """
    block, columns = int(part.attributes["dlc.block"]), int(part.attributes["dlc.columns"])
    turns = product(extent(schedule, loop) for loop in tiles)
    products = product(extent(schedule, loop) for loop in reduced)
    inputs = extent(schedule, reduced[-1]) or 1
    weights = 2 <= turns <= MOST_TILES and turns * LINE >= block and inputs >= 16
    lines = columns * -(-block // LINE)
    behind = bool(results) and products >= lines
    if not weights and not behind:
        return
    most = min(turns * LINE // block if weights else 8, products // lines if behind else 8, 8)
    outer, _ = schedule.split(reduced[-1], [None, largest_divisor(inputs, most)])
    if weights:
        mark_streamed_weights(schedule, part.name, tiles, outer)
    if behind:
        mark_results(schedule, outer, results)


def split_channels(schedule: Schedule, loop: Any, block: int, target: CpuTarget) -> tuple[Any, list[Any]]:
    """Splits a result's channels into blocks, and those into whole vectors where the last block is not full."""
    channels = extent(schedule, loop) or block
    if channels % block == 0 or channels < block:
        outer, lane = schedule.split(loop, [None, min(block, channels)])
        return outer, [lane]
    width = math.gcd(channels, block, target.lanes)
    outer, lane = schedule.split(loop, [None, width])
    outer, vector = schedule.split(outer, [None, block // width])
    return outer, [vector, lane]


def vectorize_channels(schedule: Schedule, loops: list[Any], target: CpuTarget) -> None:
    """Vectors along the loops that `split_channels` made inside blocks."""
    if len(loops) > 1:
        schedule.unroll(loops[0])
    vectorize(schedule, loops[-1], target.lanes)


def schedule_copy(schedule: Schedule, block: Any) -> None:
    """A padded copy of an image: along the channels, whole vectors where they divide."""
    channels = schedule.get_loops(block)[-1]
    count = extent(schedule, channels)
    if count is None:
        return
    if count > 64:
        tile = next((d for d in (64, 48, 32, 16) if count % d == 0), None)
        if tile is None:
            return
        _, channels = schedule.split(channels, [None, tile])
    schedule.vectorize(channels)


def schedule_repacking(schedule: Schedule, block: Block, target: CpuTarget, *, inside: int = 0) -> None:
    """A repacked weight: a transposition of its last two axes. Vectors are read along the first of them, then scattered.

    `inside` counts the loops of a task that repacks its own part.
    """
    loops = schedule.get_loops(schedule.get_sblock(block.name))[inside:]
    along, lane = loops[-2:]
    total = product(extent(schedule, loop) for loop in loops)
    width = next((w for w in (16, 8, 4, 2) if w <= target.lanes and (extent(schedule, along) or 1) % w == 0), 1)
    vectors, element = schedule.split(along, [None, width])
    lanes, lane = schedule.split(lane, [None, largest_divisor(extent(schedule, lane) or 1, 4)])
    schedule.reorder(*loops[:-2], lanes, vectors, lane, element)
    schedule.vectorize(element)
    if not inside and total * 0.3 > WORTH_SHARING:
        schedule.parallel(schedule.fuse(*loops[:-2], lanes))
