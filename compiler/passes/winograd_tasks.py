"""How long a Winograd convolution takes, and how its work is cut: the model behind the choice of tiles and tasks.

Times are cycles of one core. They come from counts (products, loads, bytes) and from facts of the target alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import ceil

from dlc.compiler.choices import Cut
from dlc.compiler.machine import Machine


@dataclass(frozen=True)
class Shape:
    """A convolution of stride 1: `rows` x `columns` results of `outputs` channels from `inputs` channels.

    The kernel is `kernel` x `kernel`. `streamed` says that weights come from memory at every call: those of the whole
    network are more than the caches hold.
    """

    rows: int
    columns: int
    inputs: int
    outputs: int
    kernel: int
    block: int
    streamed: bool = False
    inside: bool = False

    @property
    def blocks(self) -> int:
        """Blocks of output channels."""
        return -(-self.outputs // self.block)


@dataclass(frozen=True)
class Tasks(Cut):
    """How the tiles of one convolution are shared out.

    A task covers `images` x `rows` x `wide` tiles and `blocks` blocks of output channels, of which `group` are multiplied
    between two transforms of results. `panel_images` x `panel_rows` x `columns` tiles stay in registers beside one block.
    `shared` is 0 where one core does all tasks.
    """

    images: int
    rows: int
    wide: int
    columns: int
    panel_images: int
    panel_rows: int
    blocks: int
    group: int
    depth: int
    shared: int = 1

    def __str__(self) -> str:
        task = f"task {self.images}x{self.rows}x{self.wide} tiles x {self.blocks} blocks by {self.group}"
        panel = f"panel {self.panel_images}x{self.panel_rows}x{self.columns}"
        return f"{task}, {panel}{'' if self.shared else ', one core'}"

    def attributes(self) -> dict[str, int]:
        """The numbers as attributes of a block."""
        return {f"dlc.{name}": value for name, value in vars(self).items()}

    @staticmethod
    def of(attributes: object) -> Tasks:
        """The tasks that a block's attributes hold."""
        return Tasks(**{name: attributes[f"dlc.{name}"] for name in Tasks.__annotations__})  # type: ignore[index]


SAMPLES = 8
"""The batch that is planned for where it is not known."""

START = 1_500.0
"""Cycles to begin a task: its memory, the first misses."""

WAKE = 8_000.0
"""Cycles to share a kernel among the cores and to wait for the last of them."""

INPUT, SUM, RESULT, TAP, FLUSH = 10.0, 6.0, 16.0, 1.4, 2.0
"""Cycles for one vector: of a place of a transformed tile (its share of reading the image, down and across); of a place of
the sums on their way back; of a result (to be written, where its line is in the third level); of a tap, for each row of places;
of sums that are added to those of other channels. Found by sampling kernels of 64 channels at 56x56 and 256 at 14x14 and 56x56."""

ALONE = 20_000.0
"""Cycles of work below which one core does it alone."""


def most_tiles(machine: Machine, block: int) -> int:
    """Tiles in registers beside one block of output channels, with room for weights and an input."""
    vectors = max(1, -(-block // machine.lanes))
    return max(1, (machine.registers - vectors - (2 if machine.registers > 16 else 1)) // vectors)


@cache
def plan(shape: Shape, tile: int, batch: int, machine: Machine) -> tuple[float, Tasks]:
    """The cut with the least time, and that time, for `batch` images."""
    return min(timed(shape, tile, batch, machine), key=lambda found: found[0])


def timed(shape: Shape, tile: int, batch: int, machine: Machine) -> Iterator[tuple[float, Tasks]]:
    """Every cut with its time."""
    for tasks in _candidates(shape, tile, batch, machine):
        count, work = _tasks_and_work(shape, tile, batch, machine, tasks)
        if count * work < ALONE:
            yield count * work, replace(tasks, shared=0)
        else:
            yield ceil(count / machine.cores) * work + WAKE, tasks


def _candidates(shape: Shape, tile: int, batch: int, machine: Machine) -> Iterator[Tasks]:
    high, across = -(-shape.rows // tile), -(-shape.columns // tile)
    most, depth = most_tiles(machine, shape.block), _depth(shape, tile, machine)
    for columns in _columns(across, most):
        for wide in _multiples(columns, across):
            for rows, panel_rows, images, panel_images in _heights(columns, across, high, most, batch):
                for blocks in _divisors(shape.blocks):
                    for group in (g for g in (1, 2, 4, blocks) if blocks % g == 0 and g <= blocks):
                        yield Tasks(images, rows, wide, columns, panel_images, panel_rows, blocks, group, depth)


def _depth(shape: Shape, tile: int, machine: Machine) -> int:
    """Input channels of which a row of places of one block's weights fills half of the level 1 cache; all, where it is not
    transformed inside."""
    if not shape.inside:
        return shape.inputs
    chunk = max(d for d in _divisors(shape.inputs) if d <= machine.lanes)
    row = 4 * (tile + shape.kernel - 1) * shape.block
    fitting = [chunk * d for d in _divisors(shape.inputs // chunk) if chunk * d * row <= machine.l1 // 2]
    return max(fitting, default=chunk)


def _columns(across: int, most: int) -> list[int]:
    """Widths of panels: the row in as few parts as fit, and in the next larger numbers of parts."""
    parts = -(-across // most)
    return list(dict.fromkeys(-(-across // p) for p in (parts, parts + 1, parts + 2)))


def _multiples(columns: int, across: int) -> list[int]:
    """Widths of tasks: one panel, some, or the whole row."""
    parts = -(-across // columns)
    return [columns * p for p in _divisors(parts)]


def _heights(columns: int, across: int, high: int, most: int, batch: int) -> Iterator[tuple[int, int, int, int]]:
    """Rows and images of a task and of a panel; panels of several rows hold whole rows, of several images whole images."""
    for rows in dict.fromkeys(-(-high // p) for p in range(1, high + 1)):
        for panel_rows in _divisors(rows):
            if panel_rows * columns > most or (panel_rows > 1 and columns < across):
                continue
            whole = rows == high and columns >= across
            panels = range(1, min(batch, most // (rows * columns)) + 1) if whole and panel_rows == rows else (1,)
            for panel_images in panels:
                for times in (1, 2, 4, 8) if rows == high else (1,):
                    if times == 1 or panel_images * times <= batch:
                        yield rows, panel_rows, panel_images * times, panel_images


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _tasks_and_work(shape: Shape, tile: int, batch: int, machine: Machine, tasks: Tasks) -> tuple[int, float]:
    """The number of tasks, and the cycles of each."""
    size = tile + shape.kernel - 1
    places = size * size
    vectors = max(1, -(-shape.block // machine.lanes))
    height = tasks.panel_images * tasks.panel_rows * tasks.columns
    tiles = tasks.images * tasks.rows * tasks.wide
    across = -(-shape.columns // tile)
    count = ceil(batch / tasks.images) * ceil(ceil(shape.rows / tile) / tasks.rows) * ceil(across / tasks.wide)
    count *= shape.blocks // tasks.blocks
    step = max(height * vectors / 2, (height + vectors) / 2, 4.0)  # products, loads, latency of the sums
    panel = 60.0 + (shape.inputs / tasks.depth * FLUSH * height * vectors if shape.inside else 0.0)
    products = places * tasks.blocks * (tiles / height) * (shape.inputs * step + panel)
    weights = 4.0 * (shape.kernel**2 if shape.inside else places) * shape.inputs * shape.block * tasks.blocks
    all_weights = weights * (shape.blocks // tasks.blocks)
    inputs = 4.0 * places * tiles * shape.inputs
    results = 4.0 * places * tiles * shape.block * tasks.group
    image = 4.0 * tiles * tile * tile * (shape.inputs + shape.block * tasks.blocks)
    running = min(count, machine.cores)
    together = inputs + results + image
    if weights + together <= 0.9 * machine.l2 and not (shape.streamed and count <= machine.cores):
        stream = weights / machine.l2_rate
    elif all_weights + running * together <= 0.7 * machine.l3:
        stream = weights / machine.l3_rate
    else:
        stream = weights * running / machine.memory_rate
    if shape.streamed:  # at least once from memory
        stream = max(stream, all_weights / machine.memory_rate * running / count)
    again = 0.0
    if (
        inputs + results > 0.6 * machine.l2
    ):  # what is transformed goes out, line by line, and is read once for each group
        again = (inputs * (4 + tasks.blocks / tasks.group) + 5 * results) / machine.l3_rate
    chunks, sums = -(-shape.inputs // machine.lanes) * tiles, tasks.blocks * vectors * tiles
    transforms = chunks * INPUT * places + sums * (SUM * places + RESULT * tile * tile)
    if shape.inside:
        transforms += TAP * size * shape.inputs * vectors * tasks.blocks * (shape.kernel**2 + 2.5 * size)
    work = max(products, stream) + 0.35 * min(products, stream) + again + transforms + START
    return count, work


def direct_time(shape: Shape, batch: int, machine: Machine) -> float:
    """The direct convolution's time: near the arithmetic peak, or the weights' way from memory."""
    block = shape.blocks * shape.block
    products = batch * shape.rows * shape.columns * block * shape.kernel**2 * shape.inputs
    alone = products / (2 * machine.lanes) / 0.95 + START
    if alone < ALONE:
        return alone
    cycles = alone / machine.cores
    if shape.streamed:
        stream = 4.0 * block * shape.kernel**2 * shape.inputs / machine.memory_rate
        cycles = max(cycles, stream) + 0.35 * min(cycles, stream)
    return cycles + WAKE


def transform_time(shape: Shape, tile: int, machine: Machine) -> float:
    """The time to transform the weights: reading them, and writing what becomes of them."""
    size = tile + shape.kernel - 1
    elements = shape.inputs * shape.blocks * shape.block
    written = 4.0 * size * size * elements
    rate = machine.memory_rate / 2 if written > machine.l3 / 4 else machine.l3_rate * machine.cores / 2
    computed = elements / machine.lanes * 3.0 * size * size / machine.cores
    return max(computed, written / rate) + WAKE
