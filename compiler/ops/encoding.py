"""Ops between class numbers and vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.ir import DType, Fusion, N, Op, Sample, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.indexing import show
from dlc.compiler.ops.lowering import Lowering, Tensor, type_of
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class OneHot(Op):
    """int32 [N] to float32 [N, classes]: 1 at the label, else 0; all zeros for a label outside the classes."""

    fusion: ClassVar[Fusion] = Fusion.INJECTIVE
    classes: int

    def infer(self, *operands: TensorType) -> TensorType:
        (labels,) = operands
        if labels.rank != 1 or labels.dtype is not DType.INT32:
            raise ShapeError(f"labels are {labels.dtype}{show(labels.shape)}; expected int32[N]")
        return TensorType((labels.shape[0], self.classes))

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return np.asarray(operands[0][:, None] == np.arange(self.classes), np.float32)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (None,)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (labels,) = operands
        one, zero = (t.maths.constant(n, DType.FLOAT32) for n in (1.0, 0.0))
        shape = self.infer(type_of(labels)).shape
        return t.compute(
            shape,
            lambda n, c: t.maths.where(t.maths.equal(labels(n), t.maths.cast(c, DType.INT32)), one, zero),
            self.name,
        )

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        labels = TensorType((N,), DType.INT32)
        return [Sample(cls(c), (labels,), integer_high=c, differentiable=False) for c in (1, 5, 10)]


def one_hot(labels: Value, classes: int) -> Value:
    """int32 [N] to float32 [N, classes]."""
    return apply(OneHot(classes), labels)
