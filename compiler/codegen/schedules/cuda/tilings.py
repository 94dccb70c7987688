"""How a product is cut into tiles: by a model of how long tensor cores, shared memory and the second level cache take."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from dlc.compiler.codegen.schedules.cuda.problem import SIZES, Kind, Problem, Units
from dlc.compiler.codegen.target import CudaTarget

TYPICAL_BATCH = 32
"""Samples that tiles of kernels for any batch are chosen for."""

MOST_SPLITS = 32
_LARGEST_WORKSPACE = 64 * 2**20
_LAUNCH, _START, _LATENCY = 4000.0, 1500.0, 700.0
"""Clocks that one more kernel, a block's begin and end, and a round trip to memory take."""


@dataclass(frozen=True)
class Tiling:
    """Tiles of `rows` x `columns` sums, `depth` products of each at a time, in `stages` places of shared memory.

    Warps (tensor cores) or threads (ordinary units) share a tile out, `down` by `across`; K is shared out among `splits`
    blocks, whose sums a second kernel adds.
    """

    rows: int
    columns: int
    down: int
    across: int
    threads: int
    depth: int = 0
    stages: int = 0
    splits: int = 1

    def stage(self, problem: Problem) -> int:
        """Bytes of one stage, with what lines are longer than tiles (see operands.cuh)."""
        size = SIZES[problem.dtype]
        along = 16 // size

        def numbers(width: int, is_along: bool) -> int:
            return width * (self.depth + along) if is_along else self.depth * (width + 8)

        a = numbers(self.rows, problem.kind is not Kind.BY_WEIGHT)
        return size * (a + numbers(self.columns, problem.kind is Kind.FORWARD))

    def shared(self, problem: Problem) -> int:
        """Bytes of shared memory: the stages, and in their place the sums at the end."""
        return max(self.stages * self.stage(problem), self.rows * (self.columns + 8) * 4)


_WARPS = (
    Tiling(128, 128, 2, 4, 256),
    Tiling(128, 64, 2, 2, 128),
    Tiling(64, 128, 2, 2, 128),
    Tiling(64, 64, 2, 2, 128),
    Tiling(128, 32, 4, 1, 128),
    Tiling(32, 128, 1, 4, 128),
    Tiling(64, 32, 2, 2, 128),
    Tiling(32, 64, 2, 2, 128),
)

_THREADS = (
    Tiling(128, 128, 16, 16, 256),
    Tiling(128, 64, 16, 8, 128),
    Tiling(64, 128, 8, 16, 128),
    Tiling(64, 64, 8, 16, 128),
    Tiling(128, 32, 16, 8, 128),
    Tiling(32, 128, 8, 16, 128),
    Tiling(64, 32, 16, 8, 128),
    Tiling(32, 64, 8, 16, 128),
)


@dataclass(frozen=True)
class Chip:
    """What the model knows of a GPU: multiprocessors, bytes of shared memory for one block, and products in one clock of
    one multiprocessor by ordinary units, by tensor cores in tf32 and in 16 bits (as `mma.sync` reaches them)."""

    processors: int
    shared: int
    scalar: int
    tf32: int
    half: int

    def rate(self, units: Units) -> int:
        """Products in one clock of one multiprocessor."""
        return {Units.SCALAR: self.scalar, Units.TF32: self.tf32}.get(units, self.half)


def chip(target: CudaTarget) -> Chip:
    """The data centre's GPU of a compute capability; the least of all where code has to run on many."""
    if target.arch in ("sm_90", "sm_100", "sm_103", "sm_110"):
        return Chip(132, 113 * 1024, 128, 640, 1280)
    if target.arch in ("sm_80", "sm_87") and not target.is_portable:
        return Chip(108, 81 * 1024, 64, 512, 1024)
    return Chip(108, 99 * 1024, 64, 512, 1024)


def choose(problem: Problem, batch: int | None, target: CudaTarget) -> Tiling:
    """The fastest cut by the model. Without a batch K is shared out only where it counts samples."""
    gpu, samples = chip(target), batch or TYPICAL_BATCH
    can_split = batch is not None or problem.kind is Kind.BY_WEIGHT
    fitting = shapes(problem, target)
    candidates = [t for shape in fitting for t in (_splits(shape, problem, samples, gpu) if can_split else [shape])]
    return min(candidates, key=lambda t: clocks(t, problem, samples, gpu))


def shapes(problem: Problem, target: CudaTarget) -> list[Tiling]:
    """The shapes of tiles that a product can be cut into."""
    known = _THREADS if problem.units is Units.SCALAR else _WARPS
    return [t for t in (_staged(shape, problem, chip(target)) for shape in known) if t is not None]


def _staged(shape: Tiling, problem: Problem, gpu: Chip) -> Tiling | None:
    """The shape with the deepest stages of which three fit; None where memory or copies do not suit."""
    size = SIZES[problem.dtype]
    deepest = 128 // size if size == 4 or min(problem.vectors) > 1 else 32
    for depth in (deepest, deepest // 2):
        tiling = replace(shape, depth=depth)
        stages = min(4, gpu.shared // tiling.stage(problem))
        if stages >= 3:
            return replace(tiling, stages=stages)
    return None


def _splits(tiling: Tiling, problem: Problem, batch: int, gpu: Chip) -> list[Tiling]:
    rounds = -(-problem.k(batch) // tiling.depth)
    blocks = _blocks(tiling, problem, batch)
    result = problem.m(batch) * problem.n * problem.pieces * 4
    most = min(MOST_SPLITS, rounds // 4, 4 * gpu.processors // blocks, _LARGEST_WORKSPACE // result)
    counts = [1, *(s for s in (2, 3, 4, 6, 8, 12, 16, 24, 32) if s <= most)]
    return [replace(tiling, splits=s) for s in counts]


def _blocks(tiling: Tiling, problem: Problem, batch: int) -> int:
    rows = int(problem.m(batch))
    return math.ceil(rows / tiling.rows) * math.ceil(problem.n / tiling.columns) * problem.pieces


def clocks(tiling: Tiling, problem: Problem, batch: int, gpu: Chip) -> float:
    """How long a product takes by the model, in clocks of one multiprocessor."""
    size, units = SIZES[problem.dtype], problem.units
    area = tiling.rows * tiling.columns
    down, across = tiling.rows // tiling.down, tiling.columns // tiling.across  # of a thread or a warp
    if units is Units.SCALAR:  # 16-byte reads: threads that share rows read them once, columns take two turns
        reads = tiling.threads / 32 * (down + 2 * across) * tiling.depth / 4
    else:
        reads = tiling.threads / 32 * (down + across) * tiling.depth * size / 128
    one = max(
        area * tiling.depth / gpu.rate(units),
        reads,
        (tiling.rows + tiling.columns) * tiling.depth * size / 48,
    )
    rounds = math.ceil(math.ceil(problem.k(batch) / tiling.depth) / tiling.splits)
    blocks = _blocks(tiling, problem, batch) * tiling.splits
    together = min(4, max(1, 2 * gpu.shared // max(tiling.shared(problem), 1)))  # blocks that share a multiprocessor
    turns = -(-blocks // gpu.processors)
    alone = max(one, _LATENCY / (tiling.stages - 1))
    time = rounds * max(turns * one, -(-turns // together) * alone) + -(-turns // together) * (_START + area / 16)
    if tiling.splits > 1:
        moved = problem.m(batch) * problem.n * problem.pieces * 4 * (2 * tiling.splits + 1)
        time += _LAUNCH + moved / (16 * gpu.processors)
    return float(time)
