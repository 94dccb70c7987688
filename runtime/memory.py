"""The memory plan: where in one arena every intermediate tensor lies, for one batch size, with the exact peak."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from dlc.runtime.plan import BATCH, Program, Slot

ALIGNMENT = 64
"""Kernels read and write whole vectors: every tensor starts at a multiple of this many bytes."""

_BYTES = {"bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}  # numpy itself has no such types


def item_bytes(dtype: str) -> int:
    """Bytes of one element."""
    return _BYTES.get(dtype) or np.dtype(dtype).itemsize


def resolve_shape(shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    """The shape with the number of samples filled in."""
    return (batch, *shape[1:]) if shape and shape[0] == BATCH else shape


def slot_bytes(slot: Slot, batch: int) -> int:
    """Bytes of a tensor."""
    return prod(resolve_shape(slot.shape, batch)) * item_bytes(slot.dtype)


def aligned(size: int) -> int:
    """The size rounded up to whole alignments."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class MemoryPlan:
    """Offsets in bytes by storage number; no storage reaches beyond `peak`.

    `needed` is the most that is alive at any one step: no plan can have a lower peak.
    """

    batch: int
    offsets: dict[int, int]
    peak: int
    needed: int


@dataclass(frozen=True)
class Lifetime:
    """A storage's size in bytes (whole alignments) and the first and last step that touch it."""

    storage: int
    size: int
    first: int
    last: int


def lifetimes(program: Program, batch: int) -> list[Lifetime]:
    """How long each storage of the arena lives: from the first to the last step with one of its slots, both included."""
    sizes: dict[int, int] = {}
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    slots = program.slots
    for number, step in enumerate(program.steps):
        for index in step.slots:
            slot = slots[index]
            if slot.place == "arena":
                first.setdefault(slot.storage, number)
                last[slot.storage] = number
    for slot in slots:
        if slot.storage in first and slot.place == "arena":
            size = aligned(slot_bytes(slot, batch))
            sizes[slot.storage] = max(sizes.get(slot.storage, 0), size)
    return [Lifetime(s, sizes[s], first[s], last[s]) for s in first]


def plan_memory(program: Program, batch: int) -> MemoryPlan:
    """Places all storages: the largest first, each into the smallest gap between those alive at the same time.

    A step's inputs and results are alive together, so no kernel overwrites what it still reads, unless the compiler gave
    both one storage.
    """
    lives = lifetimes(program, batch)
    needed = _most_alive(lives, len(program.steps))
    best: tuple[dict[int, int], int] | None = None
    for order in (_by_size, _by_area):
        offsets, peak = _place(sorted(lives, key=order, reverse=True))
        if best is None or peak < best[1]:
            best = offsets, peak
        if peak == needed:
            break
    offsets, peak = best if best is not None else ({}, 0)
    return MemoryPlan(batch, offsets, peak, needed)


def _by_size(life: Lifetime) -> tuple[int, int, int]:
    return life.size, life.last - life.first, -life.storage


def _by_area(life: Lifetime) -> tuple[int, int, int]:
    return life.size * (life.last - life.first + 1), life.size, -life.storage


def _most_alive(lives: list[Lifetime], steps: int) -> int:
    change = np.zeros(steps + 1, np.int64)
    for life in lives:
        change[life.first] += life.size
        change[life.last + 1] -= life.size
    return int(change.cumsum().max(initial=0))


def _place(lives: list[Lifetime]) -> tuple[dict[int, int], int]:
    """First to last, each at the start of the smallest gap that fits among its contemporaries, else above them."""
    firsts, lasts, starts, ends = (np.empty(len(lives), np.int64) for _ in range(4))
    offsets: dict[int, int] = {}
    for count, life in enumerate(lives):
        together = np.flatnonzero((firsts[:count] <= life.last) & (lasts[:count] >= life.first))
        together = together[starts[together].argsort()]
        tops = np.maximum.accumulate(np.concatenate(([0], ends[together])))  # tops[k]: the highest end below block k
        gaps = starts[together] - tops[:-1]
        fitting = np.flatnonzero(gaps >= life.size)
        offset = int(tops[fitting[gaps[fitting].argmin()]] if fitting.size else tops[-1])
        firsts[count], lasts[count], starts[count], ends[count] = life.first, life.last, offset, offset + life.size
        offsets[life.storage] = offset
    return offsets, int(ends.max(initial=0))
