"""Convolutions and linear layers over paired weights: panels of pixels by 32 channels, each a call."""

from __future__ import annotations

from typing import ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.codegen.panels import mark
from dlc.compiler.codegen.schedules.base import Block, KernelBlocks, ScheduleRule, inline
from dlc.compiler.codegen.schedules.cpu.convolution import schedule_copy, split_channels, vectorize_channels
from dlc.compiler.codegen.schedules.cpu.elementwise import schedule_map
from dlc.compiler.codegen.schedules.cpu.loops import WORTH_SHARING, divisors, extent, product
from dlc.compiler.codegen.target import CpuTarget
from dlc.compiler.panel import CHANNELS, DEPTH, Panel, panel_of

GHZ = 2.0
"""Cycles of a nanosecond, for estimates."""

COPY = 12.0
"""Bytes that one core copies in a cycle."""

MEMORY = 8.0
"""Bytes of weights that one core reads in a cycle."""


class PairedRule(ScheduleRule):
    """Products over paired weights, with element-wise blocks behind them.

    A task covers some rows of panels and some blocks of channels of one image. The sums of a panel go through memory (the
    level 1 cache) to what is fused behind.
    """

    anchors: ClassVar[frozenset[str]] = frozenset({"paired"})
    specializes_batch_one: ClassVar[bool] = True

    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel; takes every kernel of its kind."""
        attributes = blocks.anchor.attributes
        panel = panel_of(int(attributes["dlc.high"]), int(attributes["dlc.wide"]))
        names = [b.name for b in blocks]
        behind = [b for b in blocks if names.index(b.name) > names.index(blocks.anchor.name)]
        copies = [b for b in blocks.prologue if b.attributes.get("dlc.part") == "padding"]
        first, *others = inline(schedule, behind)
        _schedule(schedule, blocks.anchor, copies[0] if copies else None, first, panel, target)
        for block in others:
            schedule_map(schedule, block, target)
        return True


def _schedule(
    schedule: Schedule, anchor: Block, copy: Block | None, last: Block, panel: Panel, target: CpuTarget
) -> None:
    """The loops of the block behind the products, and inside them the products and the copy of the image."""
    main, store = schedule.get_sblock(anchor.name), schedule.get_sblock(last.name)
    of = [extent(schedule, loop) for loop in schedule.get_loops(main)]
    chunks, kernel = (of[6] or 1) // DEPTH, (of[4] or 1) * (of[5] or 1)
    loops = schedule.get_loops(store)
    channels = loops[-1]
    flat = len(loops) == 4 and of[1] == 1 and extent(schedule, loops[1]) != 1  # all pixels lie in one row
    matrix = len(loops) == 2
    work = Work(panel, chunks * kernel, _bytes(schedule, copy) / max(1, -(-(of[1] or 1) // panel.high)))
    wide = None if of[2] is None else of[2] // panel.wide
    high = 1 if flat or matrix else (of[1] or 1) // panel.high
    count = (of[3] or CHANNELS) // CHANNELS
    if flat or matrix:
        rows, columns, blocks = work.cut(of[0], 1, wide, count, target.cores)
    else:
        rows, columns, blocks = work.cut(of[0], high, 1, count, target.cores, across=wide or 1)

    o_outer, lanes = split_channels(schedule, channels, CHANNELS, target)
    o_task, o_block = schedule.split(o_outer, [None, blocks])
    if matrix:
        x_task, x_block, x_pixel = schedule.split(loops[0], [None, columns, panel.wide])
        outer, inner, at = [o_task, x_task], [o_block, x_block, x_pixel], x_block  # weights once from memory, all rows
    elif flat:
        n, y, x = loops[:3]
        across = panel.wide // (extent(schedule, x) or 1)
        y_task, y_block, y_pixel = schedule.split(y, [None, columns, across])
        outer, inner, at = [n, y_task, o_task], [o_block, y_block, y_pixel, x], y_block
    else:
        n, y, x = loops[:3]
        y_task, y_block, y_pixel = schedule.split(y, [None, rows, panel.high])
        x_block, x_pixel = schedule.split(x, [None, panel.wide])
        outer, inner, at = [n, y_task, o_task], [o_block, y_block, x_block, y_pixel, x_pixel], x_block
    schedule.reorder(*outer, *inner, *lanes)
    task = schedule.fuse(*outer)
    schedule.compute_at(main, at, preserve_unit_loops=True)
    own = schedule.get_loops(main)
    mark(schedule, own[-7], (panel.high, panel.wide), int(anchor.attributes["dlc.halves"]))
    if copy is not None:
        block = schedule.get_sblock(copy.name)
        if matrix:
            schedule_map(schedule, copy, target)
        else:
            schedule.compute_at(block, task, preserve_unit_loops=True)
            schedule_copy(schedule, block)
    total = work.cycles * (of[0] or 1) * high * (wide or 1) * count
    if extent(schedule, task) != 1 and (total / GHZ > WORTH_SHARING or None in of):
        schedule.parallel(task)
    vectorize_channels(schedule, lanes, target)


def _bytes(schedule: Schedule, copy: Block | None) -> float:
    """Bytes of one image's copy, 0 without one."""
    if copy is None:
        return 0.0
    sizes = [extent(schedule, loop) for loop in schedule.get_loops(schedule.get_sblock(copy.name))]
    return 2.0 * product(sizes[1:]) if len(sizes) == 4 else 0.0


class Work:
    """What the parts of a kernel take, in cycles of one core."""

    def __init__(self, panel: Panel, chunks: int, copied: float) -> None:
        self.cycles = panel.cycles * chunks + 3.0 * panel.pixels + 100.0
        self.weights = chunks * CHANNELS * DEPTH * 2 / MEMORY
        self.copied = copied / COPY

    def cut(
        self, images: int | None, high: int, wide: int | None, blocks: int, cores: int, across: int = 1
    ) -> tuple[int, int, int]:
        """Rows of panels, panels of one row, and blocks of channels of a task: the least time of the busiest core.

        `across` counts the panels of a row where all are in one task.
        """
        best, chosen = float("inf"), (high, wide or 1, blocks)
        for rows in divisors(high):
            for columns in divisors(wide or 1):
                for group in divisors(blocks):
                    tasks = (images or 1) * (high // rows) * ((wide or 1) // columns) * (blocks // group)
                    work = (
                        rows * columns * across * group * self.cycles
                        + self.copied * (rows + 0.5)
                        + self.weights * group
                        + 500
                    )
                    time = -(-tasks // cores) * work
                    if time < best * (1.0 - 1e-9):
                        best, chosen = time, (rows, columns, group)
        return chosen
