"""Winograd: convolutions of stride 1 become convolutions by tiles, with fewer multiplications, where that is faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, prod

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

    What `choices` holds for a convolution goes before the model: its tile, or that it is direct; where its weight is transformed,
    the model says. They are named by whether weights are `trained`, and `streamed` (None: as the graph's size says).
    """

    machine: Machine
    batches: tuple[int, ...] = (1, 8)
    constant_weights: bool = False
    tiles: tuple[int, ...] = TILES
    choices: Choices = MODEL
    trained: bool = False
    streamed: bool | None = None

    def __call__(self, graph: Graph) -> Graph:
        """The graph with the convolutions exchanged."""
        streamed = self._streams(graph)

        def by_tiles(value: Value) -> Value | None:
            found = _stride_one(value)
            if found is None:
                return None
            channels, inputs, kernel, padding = found
            shape = self._shape(value, streamed)
            assert shape is not None
            op, (x, weight) = value.op, value.operands
            assert isinstance(op, Conv2d | Conv2dInputGradient)
            turned = isinstance(op, Conv2dInputGradient)
            chosen = self._choice(shape)
            if chosen is None or (chosen[1] and not op.block):
                return None
            tile, inside = chosen
            if not inside:
                transform = WinogradWeights(channels, inputs, kernel, tile, shape.block, op.block, turned)
                weight = apply(transform, weight, span=value.span, label=value.label)
            return apply(WinogradConv2d(channels, kernel, padding, tile), x, weight, span=value.span, label=value.label)

        return rewrite(graph, by_tiles)

    def _choice(self, shape: Shape) -> tuple[int, bool] | None:
        """The tile with the least time, and whether weights are transformed inside (they can be, where `shape` says so).

        None where the direct convolution is as fast.
        """
        tiles = [m for m in self.tiles if _fits(m, shape)]
        best, chosen = prod(direct_time(shape, b, self.machine) for b in self.batches), None
        best *= 0.95 ** len(self.batches)
        measured = self.choices.form(form_workload(shape, self.batches, trained=self.trained))
        if measured is not None and not measured.tile:
            return None
        if measured is not None and _fits(measured.tile, shape):
            tiles, best = [measured.tile], inf
        for tile in tiles:
            time, inside = time_by_tiles(shape, tile, self.batches, self.machine, once=self.constant_weights)
            if time < best:
                best, chosen = time, (tile, inside)
        return chosen

    def measured(self, graph: Graph) -> dict[str, Form]:
        """Those of the graph's convolutions whose form `choices` decides, by their workloads."""
        found, streamed = {}, self._streams(graph)
        for shape in filter(None, (self._shape(v, streamed) for v in graph.values)):
            workload = form_workload(shape, self.batches, trained=self.trained)
            form = self.choices.form(workload)
            if form is not None:
                found[workload] = form
        return found

    def _streams(self, graph: Graph) -> bool:
        return streams_weights(graph, self.machine) if self.streamed is None else self.streamed

    def _shape(self, value: Value, streamed: bool) -> Shape | None:
        """The sizes of the convolution that a value is, None if it is none that may be done by tiles."""
        found = _stride_one(value)
        if found is None:
            return None
        channels, inputs, kernel, _ = found
        op = value.op
        assert isinstance(op, Conv2d | Conv2dInputGradient)
        packed = (op.block > 0 or self.constant_weights) and not isinstance(op, Conv2dInputGradient)
        block = op.block if packed and op.block else weight_block(self.machine.lanes, channels)
        rows, columns = static(value.type.shape[1:3])
        return Shape(rows, columns, inputs, channels, kernel, block, streamed, packed)


def time_by_tiles(
    shape: Shape, tile: int, batches: Sequence[int], machine: Machine, *, once: bool
) -> tuple[float, bool]:
    """The product of the times of a convolution by tiles over the numbers of samples, and whether its weight is transformed inside.

    It can be, where `shape` says so; else it is transformed `once`, or in every call.
    """
    extra = 0.0 if once else transform_time(shape, tile, machine)
    before = prod(plan(replace(shape, inside=False), tile, b, machine)[0] + extra for b in batches)
    if once:
        before *= LARGER ** len(batches)
    if not shape.inside:
        return before, False
    inside = prod(plan(shape, tile, b, machine)[0] for b in batches)
    return (inside, True) if inside <= before else (before, False)


def _fits(tile: int, shape: Shape) -> bool:
    """Whether there are points enough for a tile."""
    return tile + shape.kernel - 2 <= len(POINTS)


def streams_weights(graph: Graph, machine: Machine) -> bool:
    """Whether a graph's weights come from memory at every call: all together are more than the caches hold."""
    return 4 * sum(_elements(p.type) for p in graph.parameters) > machine.l3 // 2


def form_workload(shape: Shape, batches: tuple[int, ...], *, trained: bool) -> str:
    """The name of the choice of a convolution's form: its sizes, the batches that it is to be fast for, its weights."""
    weights = ("trained" if trained else "constant") + (" streamed" if shape.streamed else "")
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
