"""How long the gradient of a convolution's weight takes by tiles, and how its work is cut: the model behind the choice.

Times are cycles of one core. They come from counts (products, loads, bytes) and from facts of the target alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import ceil, inf

from dlc.compiler.machine import Machine
from dlc.compiler.passes.winograd_tasks import ALONE, START, WAKE, most_tiles


@dataclass(frozen=True)
class GradientShape:
    """The weight of a convolution of stride 1: `outputs` x `inputs` channels, `kernel` x `kernel`, in blocks of outputs.

    `rows` x `columns` are the extents of the convolution's result, summed over.
    """

    rows: int
    columns: int
    inputs: int
    outputs: int
    kernel: int
    block: int

    @property
    def blocks(self) -> int:
        """Blocks of output channels."""
        return -(-self.outputs // self.block)


@dataclass(frozen=True)
class GradientTasks:
    """How the sums of one gradient are shared out.

    The images are cut into `parts` with sums of their own. A task covers `inputs` input channels and `blocks` blocks of
    output channels of one part; it transforms and adds up `images` images times `rows` rows of tiles at a time.
    """

    parts: int
    images: int
    rows: int
    inputs: int
    blocks: int

    def attributes(self) -> dict[str, int]:
        """The numbers as attributes of a block."""
        return {f"dlc.{name}": value for name, value in vars(self).items()}

    @staticmethod
    def of(attributes: object) -> GradientTasks:
        """The tasks that a block's attributes hold."""
        return GradientTasks(**{name: attributes[f"dlc.{name}"] for name in GradientTasks.__annotations__})  # type: ignore[index]


SMALL = 32 * 32
"""Pairs of channels up to which the images are cut into parts: there are too few weights to share out."""

PARTS = 16
"""Into how many parts at most. No number of threads decides it, so none changes the order of the sums."""


@cache
def plan_gradient(shape: GradientShape, tile: int, batch: int, machine: Machine) -> tuple[float, GradientTasks | None]:
    """The cut with the least time, and that time, for `batch` images; infinity and None where none fits into the caches."""
    best, chosen = inf, None
    for tasks in _candidates(shape, tile, batch, machine):
        count = tasks.parts * ceil(shape.inputs / tasks.inputs) * (shape.blocks // tasks.blocks)
        work = _work(shape, tile, batch, machine, tasks)
        time = count * work if count * work < ALONE else ceil(count / machine.cores) * work + WAKE
        if time < best:
            best, chosen = time, tasks
    return best, chosen


def direct_gradient_time(shape: GradientShape, batch: int, machine: Machine) -> float:
    """The direct sums' time: somewhat below the arithmetic peak."""
    lanes = shape.blocks * shape.block / (2 * machine.lanes)
    cycles = batch * shape.rows * shape.columns * shape.kernel**2 * shape.inputs * lanes / 0.8 + START
    return cycles if cycles < ALONE else cycles / machine.cores + WAKE


def channels_together(inputs: int, lanes: int) -> int:
    """Input channels that are transformed as one vector: a divisor of all."""
    return max(d for d in range(1, lanes + 1) if inputs % d == 0)


def _candidates(shape: GradientShape, tile: int, batch: int, machine: Machine) -> Iterator[GradientTasks]:
    high, across = -(-shape.rows // tile), -(-shape.columns // tile)
    places = (tile + shape.kernel - 1) ** 2
    together = channels_together(shape.inputs, machine.lanes)
    parts = max(_divisors(batch, PARTS)) if shape.inputs * shape.blocks * shape.block <= SMALL else 1
    for rows in _divisors(high, high):
        for images in _divisors(batch // parts, batch) if rows == high else (1,):
            tiles = images * rows * across
            for chunks in _divisors(shape.inputs // together, shape.inputs):
                for blocks in _divisors(shape.blocks, shape.blocks):
                    inputs, outputs = chunks * together, blocks * shape.block
                    held = 4 * places * (inputs * outputs + tiles * (inputs + outputs))
                    if held <= 0.8 * machine.l2:
                        yield GradientTasks(parts, images, rows, inputs, blocks)


def _work(shape: GradientShape, tile: int, batch: int, machine: Machine, tasks: GradientTasks) -> float:
    """The cycles of one task."""
    places = (tile + shape.kernel - 1) ** 2
    across = -(-shape.columns // tile)
    outputs = tasks.blocks * shape.block
    tiles = tasks.images * tasks.rows * across
    turns = batch // tasks.parts // tasks.images * ceil(ceil(shape.rows / tile) / tasks.rows)
    sums = tasks.inputs * outputs
    together = channels_together(shape.inputs, machine.lanes)
    vectors = max(1, -(-shape.block // machine.lanes))
    most = most_tiles(machine, shape.block)
    height = max(d for d in _divisors(tasks.inputs, most))
    step = max(height * vectors / 2, (height + vectors) / 2, 4.0)  # products, loads, latency of the sums
    products = places * tiles * (tasks.inputs // height) * tasks.blocks * step * 1.1
    moved = 4.0 * places * (2 * sums + 2 * tiles * (tasks.inputs + outputs)) / machine.l2_rate
    transforms = places * tiles * (2.6 * (tasks.inputs // together) + 2.7 * tasks.blocks * vectors)
    return turns * (products + 0.5 * moved + transforms) + places * sums / machine.lanes * 2.0 + START


def _divisors(number: int, most: int) -> list[int]:
    return [d for d in range(1, min(number, most) + 1) if number % d == 0]
