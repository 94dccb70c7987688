"""Winograd for gradients of weights: sums over pixels become sums over tiles, with fewer multiplications, where that is faster."""

from __future__ import annotations

from dataclasses import dataclass

from dlc.compiler.ir import Graph, Value, apply
from dlc.compiler.machine import Machine
from dlc.compiler.ops.convolution import Conv2dWeightGradient
from dlc.compiler.ops.indexing import static
from dlc.compiler.ops.winograd_gradient import WinogradWeightGradient
from dlc.compiler.passes.rewrite import rewrite
from dlc.compiler.passes.winograd_gradient_tasks import GradientShape, direct_gradient_time, plan_gradient

TILES = (2, 3, 4)
"""Results of the convolution that a tile may have along each axis."""

LARGEST = 6
"""Places of a tile along each axis, up to which code stays short and rounding errors small."""

WORTH = 0.85
"""The part of the direct sums' time that tiles may take at most: what the model does not count is in favour of these."""


@dataclass(frozen=True)
class WinogradGradient:
    """Conv2dWeightGradient of stride 1 with packed weights becomes WinogradWeightGradient, for a step on `batch` samples."""

    machine: Machine
    batch: int
    tiles: tuple[int, ...] = TILES

    def __call__(self, graph: Graph) -> Graph:
        """The graph with the gradients exchanged."""
        return rewrite(graph, self._by_tiles)

    def _by_tiles(self, value: Value) -> Value | None:
        op = value.op
        if not isinstance(op, Conv2dWeightGradient):
            return None
        k = op.kernel[0]
        plain = op.stride == op.dilation == (1, 1) and op.groups == 1 and op.kernel == (k, k) and k in (3, 5)
        if not plain or not op.block:
            return None
        rows, columns = static(value.operands[1].type.shape[1:3])
        tile = self._tile(GradientShape(rows, columns, op.in_channels, op.channels, k, op.block))
        if tile is None:
            return None
        own = WinogradWeightGradient(op.channels, k, op.padding, tile, op.block, op.in_channels)
        return apply(own, *value.operands, span=value.span, label=value.label)

    def _tile(self, shape: GradientShape) -> int | None:
        """The tile with the least time, None where the direct sums have it."""
        best, chosen = WORTH * direct_gradient_time(shape, self.batch, self.machine), None
        for tile in (m for m in self.tiles if m + shape.kernel - 1 <= LARGEST):
            time, _ = plan_gradient(shape, tile, self.batch, self.machine)
            if time < best:
                best, chosen = time, tile
        return chosen
