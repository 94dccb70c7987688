"""Upsampling by repetition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.ir import Fusion, N, Op, Sample, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.base import float_type
from dlc.compiler.ops.indexing import show, static
from dlc.compiler.ops.lowering import Lowering, Tensor, type_of
from dlc.compiler.ops.reduction import reduce_sum
from dlc.compiler.ops.shape import reshape
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Upsample(Op):
    """[N, H, W, C] to [N, H·f, W·g, C] for `factor` (f, g): each element repeated (nearest neighbour)."""

    fusion: ClassVar[Fusion] = Fusion.INJECTIVE
    factor: tuple[int, int]

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        if x.rank != 4 or min(self.factor) < 1:
            raise ShapeError(f"cannot upsample {show(x.shape)} by {list(self.factor)}")
        height, width = static(x.shape[1:3])
        return x.with_shape(x.shape[0], height * self.factor[0], width * self.factor[1], x.shape[3])

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return operands[0].repeat(self.factor[0], 1).repeat(self.factor[1], 2)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        batch, height, width, channels = result.operands[0].type.shape
        grid = (batch, height, self.factor[0], width, self.factor[1], channels)
        return (reduce_sum(reshape(upstream, grid), (2, 4)),)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (x,) = operands
        f, g = self.factor
        return t.compute(self.infer(type_of(x)).shape, lambda n, h, w, c: x(n, h // f, w // g, c), self.name)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [Sample(cls((2, 3)), (float_type(N, 3, 2, 5),))]


def upsample(x: Value, factor: tuple[int, int]) -> Value:
    """[N, H, W, C] to [N, H·f, W·g, C], nearest neighbour."""
    return apply(Upsample(factor), x)
