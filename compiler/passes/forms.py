"""The same kernel with its convolution in another form: directly, or by Winograd's tiles. For comparing them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dlc.compiler.ir import DType, Parameter, TensorType, Value, apply, source
from dlc.compiler.ops.convolution import Conv2d, Conv2dInputGradient, Sides
from dlc.compiler.ops.indexing import static
from dlc.compiler.ops.winograd import WinogradConv2d, WinogradWeights
from dlc.compiler.passes.fuse import Kernel
from dlc.compiler.passes.pack_weights import weight_block
from dlc.compiler.passes.winograd_tasks import Shape


@dataclass(frozen=True)
class Convolution:
    """What a kernel's convolution of stride 1 computes, whatever its form: `rows` x `columns` results of `channels` from `inputs`
    channels. A `turned` one is the gradient by the image of a convolution whose weight is read turned by half a turn; one by tiles
    may transform its packed weight `inside`."""

    channels: int
    inputs: int
    kernel: int
    padding: Sides
    rows: int
    columns: int
    turned: bool
    tile: int
    inside: bool = False

    @staticmethod
    def of(kernel: Kernel) -> Convolution | None:
        """The convolution of a kernel; None where it has none that may have several forms."""
        anchor = kernel.anchor
        if anchor is None or not isinstance(anchor.op, Conv2d | Conv2dInputGradient | WinogradConv2d):
            return None
        op, (x, weight) = anchor.op, anchor.operands
        if x.type.dtype is not DType.FLOAT32 or weight.type.dtype is not DType.FLOAT32:
            return None
        rows, columns, channels = static(anchor.type.shape[1:])
        inputs = static(x.type.shape[3:])[0]
        if isinstance(op, WinogradConv2d):
            turned = isinstance(weight.op, WinogradWeights) and weight.op.turned
            inside = weight.type.rank == 5
            return Convolution(channels, inputs, op.kernel, op.padding, rows, columns, turned, op.tile, inside)
        k = op.kernel[0]
        plain = op.stride == op.dilation == (1, 1) and op.groups == 1 and op.kernel == (k, k) and k in (3, 5)
        if not plain or not op.block:
            return None
        turned = isinstance(op, Conv2dInputGradient)
        return Convolution(channels, inputs, k, _turned(op.padding, k, turned), rows, columns, turned, 0)

    def shape(self, lanes: int, *, streamed: bool) -> Shape:
        """The convolution as the model of tiles sees it."""
        block = weight_block(lanes, self.channels)
        return Shape(self.rows, self.columns, self.inputs, self.channels, self.kernel, block, streamed, self.inside)

    def weights(self, tile: int, lanes: int) -> WinogradWeights:
        """What makes the weight for tiles of `tile` results, of the packed one."""
        block = weight_block(lanes, self.channels)
        packed = weight_block(lanes, self.inputs if self.turned else self.channels)
        return WinogradWeights(self.channels, self.inputs, self.kernel, tile, block, packed, self.turned)

    def over(self, x: Value, tile: int, lanes: int, *, inside: bool) -> Value:
        """The convolution of x in a form, over a weight of its own, transformed where the form wants it, if not `inside`."""
        transform = self.weights(tile or 2, lanes)
        weight = source(Parameter("weight", TensorType(transform.weight_shape, x.type.dtype)))
        if tile:
            op_by_tiles = WinogradConv2d(self.channels, self.kernel, self.padding, tile)
            return apply(op_by_tiles, x, weight if inside else apply(transform, weight))
        both = (self.kernel, self.kernel)
        padding = _turned(self.padding, self.kernel, self.turned)
        if not self.turned:
            return apply(Conv2d(self.channels, both, padding=padding, block=transform.packed), x, weight)
        size = (self.rows, self.columns, self.channels)
        op = Conv2dInputGradient(self.inputs, both, padding=padding, block=transform.packed, input_size=size)
        return apply(op, x, weight)


def in_form(kernel: Kernel, tile: int, lanes: int, *, inside: bool = False) -> Kernel:
    """The kernel with its convolution by tiles of `tile` results, or directly (0); its inputs keep their places.

    Where `inside`, tiles are computed over the packed weight; that of a gradient by the image cannot be.
    """
    found, anchor = Convolution.of(kernel), kernel.anchor
    assert found is not None and anchor is not None
    if (tile, inside) == (found.tile, found.inside):
        return kernel
    made = found.over(anchor.operands[0], tile, lanes, inside=inside)
    memo = {anchor: made}
    for value in kernel.body:
        if value is not anchor:
            operands = tuple(memo.get(o, o) for o in value.operands)
            memo[value] = Value(value.op, operands, value.type, value.span, value.label)
    return replace(
        kernel, body=tuple(memo[v] for v in kernel.body), results=tuple(memo[r] for r in kernel.results), anchor=made
    )


def transforming(convolution: Convolution, tile: int, lanes: int) -> Kernel:
    """The kernel that transforms the packed weight in a training step."""
    op = convolution.weights(tile, lanes)
    weight = source(Parameter("weight", TensorType(op.weight_shape)))
    made = apply(op, weight)
    return Kernel((made,), (made,), made)


def _turned(padding: Sides, kernel: int, turned: bool) -> Sides:
    """The padding of a gradient's convolution, from that of the convolution itself, and back."""
    if not turned:
        return padding
    top, left, bottom, right = (kernel - 1 - p for p in padding)
    return top, left, bottom, right
