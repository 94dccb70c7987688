"""How a direct convolution is cut into tasks: the model behind the choice. Times are cycles of one core."""

from __future__ import annotations

from dataclasses import dataclass

from dlc.compiler.codegen.schedules.cpu.loops import divisors
from dlc.compiler.machine import Machine

SAMPLES = 8
"""The batch that is planned for where it is not known."""

ALONE = 15_000.0
"""Cycles of work below which one core does it alone."""

START = 200.0
"""Cycles to begin a task."""

STRIPS = 4.0
"""How many times longer a part of each pixel's channels takes to write, where all pixels take more than half
of the level 2 cache."""

TOGETHER = 1.05
"""How many times longer many images may take, so that no second kernel is compiled for one."""

CHANGE = 4.0
"""Bytes of weights for which a core waits in a cycle when a tile is the first of a block of channels."""


@dataclass(frozen=True)
class Shape:
    """The extents of one convolution; `batch` is None where it is symbolic.

    A register tile holds `tile` columns of `block` channels, and `most` columns in all where it covers several rows. `image_row`
    counts the bytes of the input that one more row of results needs, `halo` those that the first row needs beyond; `copied` says
    that they are copied, with padding. `added` counts tensors of the result's size that are read beside.
    """

    batch: int | None
    rows: int
    columns: int
    blocks: int
    block: int
    taps: int
    inputs: int
    tile: int
    most: int
    image_row: float
    halo: float = 0.0
    copied: bool = False
    added: int = 0

    def tile_rows(self, rows: int) -> int:
        """Rows of results in one register tile of a task with so many."""
        return max(d for d in divisors(rows) if d * self.tile <= self.most or d == 1)

    @property
    def block_bytes(self) -> float:
        """Bytes of one block of weights."""
        return 4.0 * self.block * self.taps * self.inputs


@dataclass(frozen=True)
class Tasks:
    """Rows and blocks of channels of one task, and whether another cut would be better for one image alone."""

    rows: int
    blocks: int
    differs_alone: bool = False


def choose_tasks(shape: Shape, machine: Machine) -> Tasks:
    """The cut with the least time for the busiest core.

    Where the batch is not known, that for one image serves any number, if it takes at most `TOGETHER` of the time of the best one
    for `SAMPLES`.
    """
    if shape.batch is not None:
        return Tasks(*_best(shape, machine, shape.batch)[1])
    most, many = _best(shape, machine, SAMPLES)
    one = _best(shape, machine, 1)[1]
    if _tasks(shape, *one, 1) > 1 and _time(shape, machine, *one, SAMPLES) <= TOGETHER * most:
        return Tasks(*one)
    return Tasks(*many, differs_alone=True)


def _best(shape: Shape, machine: Machine, images: int) -> tuple[float, tuple[int, int]]:
    """The least time, and rows and blocks of the tasks that take it."""
    whole = (shape.rows, shape.blocks)
    alone = task_time(shape, machine, *whole, 1)
    if images == 1 and alone < ALONE:
        return alone, whole
    best, chosen = float("inf"), whole
    for rows in divisors(shape.rows):
        for blocks in divisors(shape.blocks):
            time = _time(shape, machine, rows, blocks, images)
            if time < best * (1.0 - 1e-9):
                best, chosen = time, (rows, blocks)
    return best, chosen


def _tasks(shape: Shape, rows: int, blocks: int, images: int) -> int:
    return images * (shape.rows // rows) * (shape.blocks // blocks)


def _time(shape: Shape, machine: Machine, rows: int, blocks: int, images: int) -> float:
    """The time of the busiest core."""
    each = -(-_tasks(shape, rows, blocks, images) // machine.cores)
    return each * task_time(shape, machine, rows, blocks, each)


def task_time(shape: Shape, machine: Machine, rows: int, blocks: int, tasks: int) -> float:
    """The time of a task of so many rows and blocks of channels, where a core does `tasks` of them one after another."""
    vectors = max(1, -(-shape.block // machine.lanes))
    high = shape.tile_rows(rows)
    height = high * shape.tile
    step = max(height * vectors / 2, (height + vectors) / 2, 4.0)  # products, loads, latency of the sums
    tiles = rows // high * -(-shape.columns // shape.tile)
    products = blocks * tiles * (shape.taps * shape.inputs * step + 40.0)
    image = shape.image_row * rows + shape.halo
    room = 0.6 * machine.l2
    passes = 1 if image + shape.block_bytes <= room else blocks  # else each block of channels reads the image again
    weights = blocks * shape.block_bytes
    if image + shape.blocks * shape.block_bytes <= room:  # they stay from one task to the next
        weights = min(weights, shape.blocks * shape.block_bytes / tasks)
    results = 4.0 * rows * shape.columns * shape.block * blocks * (1 + shape.added)
    span = 4.0 * rows * shape.columns * shape.block * shape.blocks
    moved = image * passes + weights + results * (1.0 if span <= machine.l2 / 2 or shape.blocks == 1 else STRIPS)
    stream = moved / machine.l3_rate
    copies = image * 2 / machine.l2_rate if shape.copied else 0.0
    changes = blocks * shape.block_bytes / CHANGE
    return max(products, stream) + 0.35 * min(products, stream) + copies + changes + START
