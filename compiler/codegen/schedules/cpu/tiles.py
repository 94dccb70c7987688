"""Tile sizes: how many results a kernel keeps in vector registers, and so how weights are packed."""

from __future__ import annotations

from dlc.compiler.codegen.target import CpuTarget
from dlc.compiler.passes import pack_weights


def weight_block(target: CpuTarget, channels: int) -> int:
    """Output channels that lie side by side in packed weights: one to four vectors, with the least surplus."""
    return pack_weights.weight_block(target.lanes, channels)


def most_columns(target: CpuTarget, block: int) -> int:
    """Columns of a register tile beside `block` output channels: as many as leave room for weights and an input."""
    vectors = max(1, -(-block // target.lanes))
    free = target.registers - vectors - (2 if target.registers > 16 else 1)
    return max(1, min(free // vectors, 28))


def column_tile(target: CpuTarget, extent: int | None, block: int) -> int:
    """How many columns of a result with `extent` of them a register tile holds; the extent is rounded up to it.

    Tiles that divide the extent waste nothing; else the one with the least time, counting loads and latency.
    """
    most = most_columns(target, block)
    if extent is None:
        return min(most, 8)
    if extent <= most:
        return extent
    vectors = max(1, -(-block // target.lanes))

    def time(tile: int) -> float:
        products = tile * vectors
        cycles = max(products / 2, (tile + vectors) / 2 if vectors > 1 else (tile + 1) / 2, 4.0)
        return -(-extent // tile) * (cycles + 0.05)

    return min(range(1, most + 1), key=lambda tile: (time(tile), -tile))
