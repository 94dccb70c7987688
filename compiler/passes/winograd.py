"""Winograd: convolutions of stride 1 become convolutions by tiles, with fewer multiplications, where that is faster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from dlc.compiler.ir import Graph, TensorType, Value, apply
from dlc.compiler.machine import Machine
from dlc.compiler.ops.convolution import Conv2d, Conv2dInputGradient, Sides
from dlc.compiler.ops.cook_toom import POINTS
from dlc.compiler.ops.indexing import static
from dlc.compiler.ops.winograd import WinogradConv2d, WinogradWeights
from dlc.compiler.passes.pack_weights import weight_block
from dlc.compiler.passes.rewrite import rewrite
from dlc.compiler.passes.winograd_tasks import Shape, direct_time, plan, transform_time

TILES = (2, 3, 4)
"""Results a tile may have along each axis. Tiles of 6 were measured no faster than 4, with more weights."""


LARGER = 1.15
"""How many times faster transformed weights in the artifact must be than those that are transformed in every call, for they are
1.8 to 4 times larger, in the file and in memory."""


@dataclass(frozen=True)
class Winograd:
    """Conv2d and Conv2dInputGradient of stride 1 become WinogradConv2d, by the model in `winograd_tasks`.

    A convolution over a packed weight may transform it on the way, block by block; else, and for gradients, WinogradWeights
    makes the transformed weight in every call. `batches` are the numbers of samples to be fast for: what has the least product
    of times over them is taken.

    Where weights are constant, before they are packed, the transformed ones are to be computed once; convolutions that had better
    transform them on the way are left for after packing.
    """

    machine: Machine
    batches: tuple[int, ...] = (1, 8)
    constant_weights: bool = False
    tiles: tuple[int, ...] = TILES

    def __call__(self, graph: Graph) -> Graph:
        """The graph with the convolutions exchanged."""
        streamed = 4 * sum(_elements(p.type) for p in graph.parameters) > self.machine.l3 // 2

        def by_tiles(value: Value) -> Value | None:
            found = _stride_one(value)
            if found is None:
                return None
            channels, inputs, kernel, padding = found
            op, (x, weight) = value.op, value.operands
            assert isinstance(op, Conv2d | Conv2dInputGradient)
            turned = isinstance(op, Conv2dInputGradient)
            packed = (op.block > 0 or self.constant_weights) and not turned
            block = op.block if packed and op.block else weight_block(self.machine.lanes, channels)
            rows, columns = static(value.type.shape[1:3])
            chosen = self._choice(Shape(rows, columns, inputs, channels, kernel, block, streamed, packed))
            if chosen is None or (chosen[1] and not op.block):
                return None
            tile, inside = chosen
            if not inside:
                transform = WinogradWeights(channels, inputs, kernel, tile, block, op.block, turned)
                weight = apply(transform, weight, span=value.span, label=value.label)
            return apply(WinogradConv2d(channels, kernel, padding, tile), x, weight, span=value.span, label=value.label)

        return rewrite(graph, by_tiles)

    def _choice(self, shape: Shape) -> tuple[int, bool] | None:
        """The tile with the least time, and whether weights are transformed inside (they can be, where `shape` says so).

        None where the direct convolution is as fast.
        """
        best, chosen = prod(direct_time(shape, b, self.machine) for b in self.batches), None
        best *= 0.95 ** len(self.batches)
        for tile in (m for m in self.tiles if m + shape.kernel - 2 <= len(POINTS)):
            for inside in dict.fromkeys((shape.inside, False)):
                free = inside or self.constant_weights
                extra = 0.0 if free else transform_time(shape, tile, self.machine)
                how = replace(shape, inside=inside)
                time = prod(plan(how, tile, b, self.machine)[0] + extra for b in self.batches)
                if not inside and self.constant_weights:
                    time *= LARGER ** len(self.batches)
                if time < best:
                    best, chosen = time, (tile, inside)
        return chosen


def _stride_one(value: Value) -> tuple[int, int, int, Sides] | None:
    """Output and input channels, kernel size and padding of the dense convolution that a value is; None if it is none."""
    op = value.op
    if not isinstance(op, Conv2d | Conv2dInputGradient):
        return None
    k = op.kernel[0]
    plain = op.stride == op.dilation == (1, 1) and op.groups == 1 and op.kernel == (k, k) and k in (3, 5)
    if not plain:
        return None
    inputs = static(value.operands[0].type.shape[3:])[0]
    if isinstance(op, Conv2d):
        return op.channels, inputs, k, op.padding
    top, left, bottom, right = (k - 1 - p for p in op.padding)
    return op.input_size[2], inputs, k, (top, left, bottom, right)


def _elements(type_: TensorType) -> int:
    return prod(static(type_.shape))
