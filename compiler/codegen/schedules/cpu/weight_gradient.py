"""The gradient of a convolution by its weight: tiles of weights in registers while a row of the image goes by."""

from __future__ import annotations

from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.schedules.base import KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.convolution import schedule_copy
from dlc.compiler.codegen.schedules.cpu.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cpu.loops import (
    TASKS,
    WORTH_SHARING,
    divisors,
    extent,
    largest_divisor,
    product,
    spatial_and_reduced,
    vectorize,
)
from dlc.compiler.codegen.schedules.cpu.tiles import most_columns
from dlc.compiler.codegen.target import CpuTarget


class ConvolutionWeightGradientRule(ScheduleRule):
    """Sums over the samples and pixels, in an order that does not depend on the number of threads.

    Small weights: the samples are cut into a fixed number of parts, each with sums of its own that are added up at the
    end. Large weights: each task owns some of the weights and goes through all samples.
    """

    anchors: ClassVar[frozenset[str]] = frozenset({"conv2d_weight_gradient"})

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        main = schedule.get_sblock(blocks.anchor.name)
        spatial, reduced = spatial_and_reduced(schedule, main)
        extents = [extent(schedule, loop) or 1 for loop in spatial]
        samples = extent(schedule, reduced[0])
        pixels = product(extent(schedule, loop) for loop in reduced)
        work = product(extents) * pixels / 100
        parts = largest_divisor(samples, TASKS) if samples is not None else 1
        shared = work > WORTH_SHARING
        if shared and parts >= target.cores and 4 * product(extents) <= target.l2 // 2:
            outer, _ = schedule.split(reduced[0], [parts, None])
            partial = schedule.rfactor(outer, 0)
            _schedule_sums(schedule, partial, blocks, target, parts=True, shared=True)
            _schedule_total(schedule, main, product(extents) * parts, target)
        else:
            _schedule_sums(schedule, main, blocks, target, parts=False, shared=shared)
        for block in inline(schedule, blocks.epilogue):
            schedule_map(schedule, block, target)
        return True


def _schedule_sums(
    schedule: Schedule, main: Any, blocks: KernelBlocks, target: CpuTarget, *, parts: bool, shared: bool
) -> None:
    """The sums themselves. With `parts` the part's loop is the task, else blocks of channels and inputs are."""
    spatial, reduced = spatial_and_reduced(schedule, main)
    part = [spatial.pop()] if parts else []
    o, i, j, c, lane = spatial
    n, y, x = reduced
    counts = [extent(schedule, loop) or 1 for loop in (o, i, j, c, lane)]
    most = most_columns(target, counts[4])
    c_size = largest_divisor(counts[3], most)
    j_size = largest_divisor(counts[2], most // c_size) if c_size == counts[3] else 1
    i_size = largest_divisor(counts[1], most // c_size // j_size) if j_size == counts[2] else 1
    c_outer, c_tile = schedule.split(c, [None, c_size])
    j_outer, j_tile = schedule.split(j, [None, j_size])
    i_outer, i_tile = schedule.split(i, [None, i_size])
    tile = [i_tile, j_tile, c_tile, lane]
    if parts:
        schedule.reorder(*part, n, y, i_outer, o, c_outer, j_outer, x, *tile)
        task = part[0]
    else:
        groups = _groups(counts[0], counts[3] // c_size, target)
        c_group, c_outer = schedule.split(c_outer, [groups, None])
        schedule.reorder(o, c_group, n, y, i_outer, c_outer, j_outer, x, *tile)
        task = schedule.fuse(o, c_group)
    for padding in (b for b in blocks.prologue if b.attributes.get("dlc.part") == "padding"):
        copy = schedule.get_sblock(padding.name)
        schedule.compute_at(copy, n, preserve_unit_loops=True)
        schedule_copy(schedule, copy)
    if shared:
        schedule.parallel(task)
    for loop in tile[:-1]:
        schedule.unroll(loop)
    vectorize(schedule, lane, target.lanes)
    schedule.decompose_reduction(main, n)


def _groups(blocks: int, tiles: int, target: CpuTarget) -> int:
    """Into how many groups the input channels are cut so that every core gets the same."""
    even = [d for d in divisors(tiles) if blocks * d % target.cores == 0]
    return even[0] if even else divisors(tiles)[-1]


def _schedule_total(schedule: Schedule, block: Any, work: float, target: CpuTarget) -> None:
    """The parts' sums added up, in the order of the parts."""
    spatial, reduced = spatial_and_reduced(schedule, block)
    schedule.reorder(*spatial[:-1], *reduced, spatial[-1])
    vectorize(schedule, spatial[-1], target.lanes)
    if work * 0.05 > WORTH_SHARING:
        schedule.parallel(schedule.fuse(*spatial[:-1]))
    schedule.decompose_reduction(block, reduced[0])
