"""The cuts of a kernel that are worth measuring, those first that its cost model thinks fastest.

The models are those that choose without measuring; here they only rank. Neighbours in a ranking are often nearly the same, so
what differs in the tile in registers comes first, the best of each.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from math import ceil
from typing import Any, TypeVar

from tvm import tirx
from tvm.s_tir import Schedule
from tvm_ffi import structural_walk

from dlc.compiler.choices import ConvolutionCut, Cut, LinearCut, OneCore
from dlc.compiler.codegen.emit import Call
from dlc.compiler.codegen.function import blocks_of, lower
from dlc.compiler.codegen.parts import place
from dlc.compiler.codegen.schedules.base import KernelBlocks
from dlc.compiler.codegen.schedules.cpu.loops import divisors, extent, spatial_and_reduced
from dlc.compiler.codegen.schedules.cpu.tiles import most_columns
from dlc.compiler.codegen.scheduling import schedule_kernel
from dlc.compiler.codegen.target import CpuTarget
from dlc.compiler.codegen.unchecked import UncheckedSchedule
from dlc.compiler.ops.indexing import static
from dlc.compiler.ops.winograd import WinogradConv2d
from dlc.compiler.passes.forms import Convolution
from dlc.compiler.passes.winograd_tasks import Tasks, timed

MOST = 48
"""Cuts of one kernel."""

_WAKE = 2_000.0
"""Cycles to share a kernel among the cores."""

_TILE = 20.0
"""Cycles around the products of a tile: accumulators set to zero, results written."""

Any_ = TypeVar("Any_", bound=Cut)


def cuts(call: Call, batch: int | None, samples: int, target: CpuTarget) -> tuple[Cut, ...]:
    """Cuts of a kernel compiled for `batch` samples (None: any number) that is to be fast for `samples` of them."""
    function = place(lower(call.kernel, batch, target), call.parts)
    schedule = UncheckedSchedule(function)
    blocks = blocks_of(schedule)
    found: Iterable[Cut] = ()
    if blocks.kind == "conv2d" and len(blocks.where(part="convolution")) == 1:
        found = _diverse(_convolutions(schedule, call, blocks, samples, target), lambda c: (c.columns, c.high))
    elif blocks.kind == "winograd":
        found = _diverse(_by_tiles(call, blocks, samples, target), _panel)
    elif blocks.kind == "linear":
        found = _diverse(_linear(schedule, call, blocks, samples, target), lambda c: c.rows)
    elif _is_shared(schedule_kernel(call, "a candidate", batch, target).function):
        found = (OneCore(),)
    return tuple(found)[:MOST]


def _diverse(timed_cuts: Iterable[tuple[float, Any_]], kind: Any) -> list[Any_]:
    """The fastest of each kind, then the second of each, and so on."""
    kinds: dict[Hashable, list[Any_]] = {}
    for _, cut in sorted(timed_cuts, key=lambda found: found[0]):
        kinds.setdefault(kind(cut), []).append(cut)
    longest = max(map(len, kinds.values()), default=0)
    return [of_kind[turn] for turn in range(longest) for of_kind in kinds.values() if turn < len(of_kind)]


def _convolutions(
    schedule: Schedule, call: Call, blocks: KernelBlocks, samples: int, target: CpuTarget
) -> Iterator[tuple[float, ConvolutionCut]]:
    (part,) = blocks.where(part="convolution")
    spatial, reduced = spatial_and_reduced(schedule, schedule.get_sblock(part.name))
    rows, deep = extent(schedule, spatial[1]) or 1, extent(schedule, spatial[3]) or 1
    block, fold = int(part.attributes["dlc.block"]), int(part.attributes["dlc.fold"])
    assert call.kernel.anchor is not None
    wide = static(call.kernel.anchor.type.shape[2:3])[0] // fold
    kernel, inputs = 1, extent(schedule, reduced[2]) or 1
    for loop in reduced[:2]:
        kernel *= extent(schedule, loop) or 1
    vectors, blocks_of_all = max(1, -(-block // target.lanes)), deep // block
    most = most_columns(target, block)
    copied = 0.0
    for padding in blocks.where(part="padding"):
        across, channels = schedule.get_loops(schedule.get_sblock(padding.name))[2:4]
        copied = 8.0 * (extent(schedule, across) or 1) * (extent(schedule, channels) or 1) / target.machine.l2_rate
    least = min(-(-wide // c) * c for c in range(1, most + 1))
    for columns in range(1, min(wide, most) + 1):
        padded = -(-wide // columns) * columns
        if padded > 1.25 * least:
            continue
        for task_rows in divisors(rows):
            for high in (d for d in divisors(task_rows) if d * columns <= most):
                cells = high * columns
                step = max(cells * vectors / 2, (cells + vectors) / 2, 4.0)
                for task_blocks in divisors(blocks_of_all):
                    tiles = task_rows // high * (padded // columns) * task_blocks
                    weights = 4.0 * block * kernel * inputs * task_blocks / target.machine.l3_rate
                    work = tiles * (step * kernel * inputs + _TILE) + weights
                    work += copied * (task_rows + kernel**0.5 - 1) + 60
                    tasks = samples * (rows // task_rows) * (blocks_of_all // task_blocks)
                    alone, shared = tasks * work, ceil(tasks / target.cores) * work + _WAKE
                    cut = ConvolutionCut(columns, high, task_rows, task_blocks, shared < alone)
                    yield min(alone, shared), cut


def _by_tiles(call: Call, blocks: KernelBlocks, samples: int, target: CpuTarget) -> Iterator[tuple[float, Tasks]]:
    found, anchor = Convolution.of(call.kernel), call.kernel.anchor
    if found is None or anchor is None or not isinstance(anchor.op, WinogradConv2d):
        return iter(())
    return timed(found.shape(target.lanes, streamed=False), anchor.op.tile, samples, target.machine)


def _panel(tasks: Tasks) -> Hashable:
    return tasks.columns, tasks.panel_rows, tasks.panel_images


def _linear(
    schedule: Schedule, call: Call, blocks: KernelBlocks, samples: int, target: CpuTarget
) -> Iterator[tuple[float, LinearCut]]:
    (_, features), reduced = spatial_and_reduced(schedule, schedule.get_sblock(blocks.anchor.name))
    block = int(blocks.anchor.attributes["dlc.block"])
    deep, inputs = extent(schedule, features) or 1, extent(schedule, reduced[0]) or 1
    count, vectors = deep // block, max(1, -(-block // target.lanes))
    most = most_columns(target, block)
    for rows in range(1, min(samples, most) + 1):
        row_tiles = -(-samples // rows)
        for group in (d for d in divisors(count) if d * rows <= most):
            step = max(rows * group * vectors / 2, (rows + group * vectors) / 2, 4.0)
            tasks = row_tiles * (count // group)
            work = max(step * inputs, 4.0 * inputs * block * group / target.machine.l3_rate) + _TILE
            for shared in (True, False) if tasks > 1 else (False,):
                time = ceil(tasks / target.cores) * work + _WAKE if shared else tasks * work
                yield time, LinearCut(rows, group, shared)


def _is_shared(function: Any) -> bool:
    loops: list[Any] = []
    structural_walk(function.body, (tirx.For, loops.append))
    return any(loop.kind == tirx.ForKind.PARALLEL for loop in loops)
