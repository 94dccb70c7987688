"""Arithmetic of an op, for tables and profiles: multiplications and additions, counted apart."""

from __future__ import annotations

from math import prod

from dlc.compiler.ir import Fusion, N, Shape, Value
from dlc.compiler.ops.convolution import Conv2d, Conv2dInputGradient, Conv2dWeightGradient
from dlc.compiler.ops.linear import Linear, LinearInputGradient, LinearWeightGradient
from dlc.compiler.ops.paired import PairedConv2d, PairedLinear
from dlc.compiler.ops.paired_gradient import PairedWeightGradient, PairPixels, Planes
from dlc.compiler.ops.pairs import PairWeight
from dlc.compiler.ops.winograd import WinogradConv2d
from dlc.compiler.ops.winograd_gradient import WinogradWeightGradient


def flops(value: Value) -> int:
    """Multiplications and additions of one value; of one sample where it depends on a symbolic batch."""
    op, operands = value.op, value.operands
    match op:
        case Conv2d():
            return 2 * _size(value) * _taps(op.kernel) * (_last(operands[0]) // op.groups)
        case PairedConv2d():
            return 2 * _size(value) * _taps(op.of.kernel) * (_last(operands[0]) // op.of.groups)
        case PairedLinear():
            return 2 * _size(value) * _last(operands[0])
        case PairedWeightGradient():
            places = op.grid.size[0] * op.grid.size[1] * _sizes(operands[0].type.shape)[0]
            return 2 * places * op.grid.of.channels * _taps(op.grid.of.kernel) * (op.grid.inputs // op.grid.of.groups)
        case WinogradConv2d():
            return 2 * _size(value) * op.kernel**2 * _last(operands[0])
        case Conv2dInputGradient() | Conv2dWeightGradient():
            upstream = operands[0] if isinstance(op, Conv2dInputGradient) else operands[1]
            inputs = op.input_size[2] if isinstance(op, Conv2dInputGradient) else op.in_channels
            return 2 * _size(upstream) * _taps(op.kernel) * (inputs // op.groups)
        case WinogradWeightGradient():
            return 2 * _size(operands[1]) * op.kernel**2 * op.in_channels
        case Linear():
            return 2 * _size(value) * _last(operands[0])
        case LinearInputGradient():
            return 2 * _size(value) * op.features
        case LinearWeightGradient():
            return 2 * _size(operands[0]) * op.features
    if isinstance(op, PairWeight | PairPixels | Planes):
        return 0
    if op.fusion in (Fusion.REDUCTION, Fusion.CONTRACTION):
        return max(_size(o) for o in operands)
    return _size(value) if op.fusion is Fusion.ELEMENTWISE else 0


def per_sample(value: Value) -> bool:
    """Whether the count is that of one sample."""
    return any(v.type.shape[:1] == (N,) for v in (value, *value.operands))


def _taps(kernel: tuple[int, int]) -> int:
    return kernel[0] * kernel[1]


def _last(value: Value) -> int:
    return _sizes(value.type.shape)[-1]


def _size(value: Value) -> int:
    return prod(_sizes(value.type.shape))


def _sizes(shape: Shape) -> list[int]:
    return [1 if d is N else int(d) for d in shape]
