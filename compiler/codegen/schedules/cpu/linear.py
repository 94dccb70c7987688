"""The linear layer: one sample as a stream of weights, many as tiles of rows by features in registers."""

from __future__ import annotations

from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.choices import Cut, LinearCut
from dlc.compiler.codegen.schedules.base import Block, KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.convolution import (
    schedule_repacking,
    split_channels,
    vectorize_channels,
)
from dlc.compiler.codegen.schedules.cpu.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cpu.loops import (
    WORTH_SHARING,
    divisors,
    extent,
    product,
    spatial_and_reduced,
    vectorize,
)
from dlc.compiler.codegen.schedules.cpu.tiles import most_columns
from dlc.compiler.codegen.target import CpuTarget

STREAMS = 8
"""Vectors of accumulators that hide the latency of multiply-add."""


class LinearRule(ScheduleRule):
    """Products of rows with a packed weight: forward and input gradient, element-wise blocks behind them."""

    anchors: ClassVar[frozenset[str]] = frozenset({"linear"})
    specializes_batch_one: ClassVar[bool] = True

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        repacked = blocks.where(part="weights")
        by_tasks = repacked[0] if len(repacked) == 1 and _is_large(schedule, repacked[0], target) else None
        for block in repacked:
            if block is not by_tasks:
                schedule_repacking(schedule, block, target)
        for block in blocks.prologue:
            if block.attributes.get("dlc.part") == "padding":
                schedule_map(schedule, block, target)
        last = inline(schedule, blocks.epilogue)
        whole = len(last) == 1 and len(schedule.get_loops(schedule.get_sblock(last[0].name))) == 2
        if whole and _same_features(schedule, blocks.anchor, last[0]):
            _schedule_product(schedule, blocks.anchor, last[0], by_tasks, target, blocks.cut)
            return True
        _schedule_product(schedule, blocks.anchor, None, by_tasks, target, blocks.cut)
        for block in last:
            schedule_map(schedule, block, target)
        return True


def _is_large(schedule: Schedule, weights: Block, target: CpuTarget) -> bool:
    """Whether a repacked weight would go out to memory and come back; then each task repacks what it needs."""
    loops = schedule.get_loops(schedule.get_sblock(weights.name))
    return 4 * product(extent(schedule, loop) for loop in loops) > target.l2


def _same_features(schedule: Schedule, anchor: Block, last: Block) -> bool:
    rows, features = (extent(schedule, loop) for loop in schedule.get_loops(schedule.get_sblock(last.name)))
    of = [extent(schedule, loop) for loop in schedule.get_loops(schedule.get_sblock(anchor.name))]
    block, tile = int(anchor.attributes["dlc.block"]), int(anchor.attributes["dlc.columns"])
    same_rows = of[0] is None if rows is None else of[0] == -(-rows // tile) * tile
    return same_rows and features is not None and of[1] == -(-features // block) * block


def _schedule_product(
    schedule: Schedule,
    anchor: Block,
    last: Block | None,
    repacked: Block | None,
    target: CpuTarget,
    cut: Cut | None,
) -> None:
    """Gives the product its loops, cut as the model says or by `cut`. A task repacks the weights it needs where `repacked` is given, for all rows at once."""
    block, tile = int(anchor.attributes["dlc.block"]), int(anchor.attributes["dlc.columns"])
    main = schedule.get_sblock(anchor.name)
    (rows, features), reduced = spatial_and_reduced(schedule, main)
    high, deep, inputs = extent(schedule, rows), extent(schedule, features) or 1, extent(schedule, reduced[0]) or 1
    if last is None:
        store = schedule.cache_write(main, 0, "local")
    else:
        store = schedule.get_sblock(last.name)
        schedule.set_scope(main, 0, "local")
    blocks, row_tiles = deep // block, None if high is None else high // tile
    work = deep * inputs * (high or tile) / 100
    memory = deep * inputs * 4 / 50  # nanoseconds to stream the weights
    shared = row_tiles is None or max(work, memory) > WORTH_SHARING
    group = _blocks_of_tile(blocks, row_tiles or 1, tile, block, shared, target)
    if isinstance(cut, LinearCut):
        group, shared = cut.blocks, cut.shared

    i, o = schedule.get_loops(store)
    width = extent(schedule, o) or 1
    lanes = min(block, width)
    o_outer, o_lanes = split_channels(schedule, o, block, target)
    o_outer, o_tile = schedule.split(o_outer, [None, group])
    i_outer, i_tile = schedule.split(i, [None, tile])
    schedule.reorder(o_outer, i_outer, o_tile, i_tile, *o_lanes)
    if repacked is None:
        task = inner = schedule.fuse(o_outer, i_outer)
    else:
        task, inner = o_outer, i_outer
    schedule.compute_at(main, inner, preserve_unit_loops=True)
    if repacked is not None:
        schedule.compute_at(schedule.get_sblock(repacked.name), task, preserve_unit_loops=True)
        schedule_repacking(schedule, repacked, target, inside=1)
    if shared and extent(schedule, task) != 1:
        schedule.parallel(task)
    spatial, reduced = spatial_and_reduced(schedule, main)
    _tile(schedule, main, spatial[-2], spatial[-1], reduced, lanes, target)
    vectorize_channels(schedule, o_lanes, target)
    schedule.unroll(i_tile)
    if width % lanes == 0:
        schedule.unroll(o_tile)


def _tile(
    schedule: Schedule, main: Any, row: Any, feature: Any, reduced: list[Any], block: int, target: CpuTarget
) -> None:
    """The accumulators' loops: rows and blocks unrolled, channels as vectors; set to zero before the sum."""
    part, lane = schedule.split(feature, [None, block])
    tile = [part, row, lane]
    schedule.reorder(*reduced, *tile)
    for loop in tile[:-1]:
        schedule.unroll(loop)
    vectorize(schedule, lane, target.lanes, padded=True)
    schedule.decompose_reduction(main, reduced[0])


def _blocks_of_tile(blocks: int, row_tiles: int, tile: int, block: int, shared: bool, target: CpuTarget) -> int:
    """Blocks of features that one tile covers: enough accumulators, and tasks for every core."""
    vectors = max(1, block // target.lanes)
    most = max(1, min(most_columns(target, block) // tile, -(-STREAMS // (tile * vectors))))
    fitting = [d for d in divisors(blocks) if d <= most]
    if not shared:
        return fitting[-1]
    balanced = [d for d in fitting if (blocks // d * row_tiles) % target.cores == 0 or blocks // d * row_tiles > 16]
    return balanced[-1] if balanced else fitting[0]


class LinearWeightGradientRule(ScheduleRule):
    """Sums of outer products over the batch: tiles of inputs by features in registers."""

    anchors: ClassVar[frozenset[str]] = frozenset({"linear_weight_gradient"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        for block in blocks.prologue:
            schedule_map(schedule, block, target)
        last = inline(schedule, blocks.epilogue)
        main = schedule.get_sblock(blocks.anchor.name)
        spatial, reduced = spatial_and_reduced(schedule, main)
        extents = [extent(schedule, loop) for loop in spatial]
        work = product(extents) * ((extent(schedule, reduced[0]) or 1) / 100 + 0.2)
        store = schedule.get_sblock(last[0].name) if len(last) == 1 else None
        fused = store is not None and [extent(schedule, loop) for loop in schedule.get_loops(store)] == extents
        if fused:
            schedule.set_scope(main, 0, "local")
        else:
            store = schedule.cache_write(main, 0, "local")
        inputs, width = extents[1] or 1, extents[2] or 1
        tile = max(d for d in divisors(inputs) if d <= most_columns(target, width))
        o, k, lane = schedule.get_loops(store)
        k_outer, k_tile = schedule.split(k, [None, tile])
        schedule.reorder(o, k_outer, k_tile, lane)
        task = schedule.fuse(o, k_outer)
        schedule.compute_at(main, task, preserve_unit_loops=True)
        if work > WORTH_SHARING:
            schedule.parallel(task)
        spatial, reduced = spatial_and_reduced(schedule, main)
        schedule.reorder(*reduced, *spatial[1:])
        schedule.unroll(spatial[-2])
        vectorize(schedule, spatial[-1], target.lanes)
        schedule.unroll(k_tile)
        vectorize(schedule, lane, target.lanes)
        schedule.decompose_reduction(main, reduced[0])
        if not fused:
            for block in last:
                schedule_map(schedule, block, target)
        return True
