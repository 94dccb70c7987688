"""Element-wise sums and products of several tensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

from dlc.compiler.ir import ShapeError, Value
from dlc.compiler.layers.base import BuildContext, FeatureShape, Layer
from dlc.compiler.layers.geometry import show
from dlc.compiler.ops.elementwise import add, multiply
from dlc.compiler.ops.shape import reshape


@dataclass(frozen=True)
class Add(Layer):
    """`add(a, b, ...)`, also written `a + b`: the element-wise sum; all shapes agree."""

    keyword: ClassVar[str] = "add"
    arity: ClassVar[tuple[int, int | None]] = (1, None)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        for other in inputs[1:]:
            if other != inputs[0]:
                raise ShapeError(f"cannot add {show(inputs[0])} and {show(other)}")
        return inputs[0]

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return reduce(add, inputs)


@dataclass(frozen=True)
class Multiply(Layer):
    """`multiply(a, b, ...)`, also written `a * b`: the element-wise product.

    All shapes agree, or one is a gate that the others share: [C] or [C, 1, 1] multiplies each channel (squeeze and
    excitation), [1, H, W] each pixel.
    """

    keyword: ClassVar[str] = "multiply"
    arity: ClassVar[tuple[int, int | None]] = (1, None)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        whole = max(inputs, key=lambda shape: (len(shape), sum(shape)))
        for other in inputs:
            wide = (*other, 1, 1) if len(other) == 1 and len(whole) == 3 else other
            if len(wide) != len(whole) or any(a not in (1, b) for a, b in zip(wide, whole, strict=True)):
                first, second = (inputs[0], other) if other is not inputs[0] else (other, whole)
                raise ShapeError(f"cannot multiply {show(first)} and {show(second)}")
        return whole

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        rank = max(x.type.rank for x in inputs)
        return reduce(multiply, [_as_image(x) if x.type.rank < rank else x for x in inputs])


def _as_image(x: Value) -> Value:
    """[N, C] -> [N, 1, 1, C]."""
    batch, channels = x.type.shape
    return reshape(x, (batch, 1, 1, channels))
