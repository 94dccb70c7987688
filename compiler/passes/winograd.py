"""Winograd: convolutions of stride 1 become convolutions by tiles, with fewer multiplications, where that is faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from dlc.compiler.choices import MODEL, Choices, Form
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


@dataclass(frozen=True)
class Winograd:
    """Conv2d and Conv2dInputGradient of stride 1 become WinogradConv2d over WinogradWeights, by the model in `winograd_tasks`.

    What `choices` holds for a convolution goes before the model.
    `batches` are the numbers of samples to be fast for: the tile with the least product of times over them is taken. With
    `constant_weights` the transformed weights are computed once, ahead of time; else in every step.
    """

    machine: Machine
    batches: tuple[int, ...] = (1, 8)
    constant_weights: bool = True
    tiles: tuple[int, ...] = TILES
    choices: Choices = MODEL

    def __call__(self, graph: Graph) -> Graph:
        """The graph with the convolutions exchanged."""
        streamed = streams_weights(graph, self.machine)

        def by_tiles(value: Value) -> Value | None:
            found = _stride_one(value)
            if found is None:
                return None
            channels, inputs, kernel, padding = found
            shape = self._shape(value, streamed)
            assert shape is not None
            tile, block = self._tile(shape), shape.block
            if tile is None:
                return None
            op, (x, weight) = value.op, value.operands
            assert isinstance(op, Conv2d | Conv2dInputGradient)
            turned = isinstance(op, Conv2dInputGradient)
            transform = WinogradWeights(channels, inputs, kernel, tile, block, op.block, turned)
            factors = apply(transform, weight, span=value.span, label=value.label)
            return apply(
                WinogradConv2d(channels, kernel, padding, tile), x, factors, span=value.span, label=value.label
            )

        return rewrite(graph, by_tiles)

    def measured(self, graph: Graph) -> dict[str, Form]:
        """Those of the graph's convolutions whose form `choices` decides, by their workloads."""
        found = {}
        for shape in filter(None, (self._shape(v, streams_weights(graph, self.machine)) for v in graph.values)):
            workload = form_workload(shape, self.batches, self.constant_weights)
            form = self.choices.form(workload)
            if form is not None:
                found[workload] = form
        return found

    def _shape(self, value: Value, streamed: bool) -> Shape | None:
        """The sizes of the convolution that a value is, None if it is none that may be done by tiles."""
        found = _stride_one(value)
        if found is None:
            return None
        channels, inputs, kernel, _ = found
        rows, columns = static(value.type.shape[1:3])
        return Shape(rows, columns, inputs, channels, kernel, weight_block(self.machine.lanes, channels), streamed)

    def _tile(self, shape: Shape) -> int | None:
        """The tile with the least time, None where the direct convolution has it."""
        measured = self.choices.form(form_workload(shape, self.batches, self.constant_weights))
        if measured is not None and (not measured.tile or measured.tile + shape.kernel - 2 <= len(POINTS)):
            return measured.tile or None

        def score(times: Sequence[float]) -> float:
            return prod(times)

        best, chosen = score([direct_time(shape, b, self.machine) for b in self.batches]), None
        for tile in (m for m in self.tiles if m + shape.kernel - 2 <= len(POINTS)):
            extra = 0.0 if self.constant_weights else transform_time(shape, tile, self.machine)
            time = score([plan(shape, tile, b, self.machine)[0] + extra for b in self.batches])
            if time < best * 0.95 ** len(self.batches):
                best, chosen = time, tile
        return chosen


def streams_weights(graph: Graph, machine: Machine) -> bool:
    """Whether a graph's weights come from memory at every call: all together are more than the caches hold."""
    return 4 * sum(_elements(p.type) for p in graph.parameters) > machine.l3 // 2


def form_workload(shape: Shape, batches: tuple[int, ...], constant_weights: bool) -> str:
    """The name of the choice of a convolution's form: its sizes, the batches that it is to be fast for, its weights."""
    weights = ("constant" if constant_weights else "trained") + (" streamed" if shape.streamed else "")
    sizes = f"{shape.kernel}x{shape.kernel} {shape.inputs}->{shape.outputs}/{shape.block} {shape.rows}x{shape.columns}"
    return f"form {sizes} batch {','.join(map(str, batches))} weights {weights}"


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
