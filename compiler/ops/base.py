"""The base of element-wise ops: numpy's broadcasting (trailing axes aligned), one formula for reference and kernel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dlc.compiler.ir import Constant, Dim, DType, Fusion, N, Op, Sample, Shape, ShapeError, TensorType, Value, apply
from dlc.compiler.ir import source as source_value
from dlc.compiler.ops.lowering import Lowering, Tensor, static_extent, type_of
from dlc.compiler.ops.maths import NumpyMaths
from dlc.runtime.deferred import np

Operand = Value | float | int | bool
"""What the functions of this module accept: a value, or a Python number that takes the other operand's element type."""


def constant(data: np.ndarray | float | int | bool, dtype: DType = DType.FLOAT32, key: str = "") -> Value:
    """A small tensor known at compile time; numbers give a scalar `()`."""
    array = np.asarray(data, dtype.numpy)
    return source_value(
        Constant(key or (repr(data) if array.ndim == 0 else "constant"), TensorType(array.shape, dtype), array)
    )


def broadcast(what: str, *shapes: Shape) -> Shape:
    """The common shape, trailing axes aligned; an axis of size 1 stretches. Raises ShapeError ("cannot `what` …")."""
    rank = max(len(s) for s in shapes)
    result: list[Dim] = []
    for axis in range(-rank, 0):
        sizes = {s[axis] for s in shapes if len(s) >= -axis} - {1}
        if len(sizes) > 1:
            raise ShapeError(f"cannot {what} " + " and ".join(f"[{', '.join(map(str, s))}]" for s in shapes))
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def read(tensor: Tensor, indices: Sequence[Any]) -> Any:
    """The element of a broadcast operand that belongs to `indices` of the result."""
    own = indices[len(indices) - len(tensor.shape) :]
    return tensor(*(0 if static_extent(e) == 1 else i for i, e in zip(own, tensor.shape, strict=True)))


@dataclass(frozen=True)
class Elementwise(Op):
    """Each result element from the operands' elements at the same (broadcast) index.

    `gradient` may return gradients in the result's shape: autodiff sums them over the axes that were stretched.
    """

    fusion: ClassVar[Fusion] = Fusion.ELEMENTWISE

    @abstractmethod
    def formula(self, m: Any, *x: Any) -> Any:
        """One element from the operands' elements; `m` is a `lowering.Maths` of numpy or of kernel expressions."""

    def dtype(self, *operands: DType) -> DType:
        """The result's element type: the operands', which must agree."""
        if len(set(operands)) != 1:
            raise ShapeError(f"cannot {self.name} {' and '.join(map(str, operands))}")
        return operands[0]

    def infer(self, *operands: TensorType) -> TensorType:
        return TensorType(broadcast(self.name, *(o.shape for o in operands)), self.dtype(*(o.dtype for o in operands)))

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(self.formula(NumpyMaths(), *operands))

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        result = self.infer(*map(type_of, operands))
        return t.compute(result.shape, lambda *i: self.formula(t.maths, *(read(o, i) for o in operands)), self.name)


def applied(op: Op, *operands: Operand) -> Value:
    """`op` applied, numbers turned into constants of the first value's element type."""
    dtype = next((v.type.dtype for v in operands if isinstance(v, Value)), DType.FLOAT32)
    return apply(op, *(v if isinstance(v, Value) else constant(v, dtype) for v in operands))


def widened(array: np.ndarray) -> np.ndarray:
    """Floats of 16 bits as float32, in which sums of their products are taken; other arrays as they are."""
    return array.astype(np.float32) if array.dtype.itemsize == 2 and array.dtype.kind in "fV" else array


def float_type(*shape: Dim) -> TensorType:
    """float32 of this shape: what most samples are made of."""
    return TensorType(tuple(shape))


def unary_samples(op: Op, **bounds: Any) -> list[Sample]:
    """A tensor with a batch, one of odd size, and a scalar."""
    return [Sample(op, (float_type(*s),), **bounds) for s in ((N, 5, 3), (7,), ())]


def binary_samples(op: Op, **bounds: Any) -> list[Sample]:
    """Equal shapes, a vector, a scalar and both operands stretched."""
    pairs: list[tuple[Shape, Shape]] = [((N, 5, 3), (N, 5, 3)), ((N, 2, 3), (3,)), ((), (7,)), ((3, 1), (1, 5))]
    return [Sample(op, (float_type(*a), float_type(*b)), **bounds) for a, b in pairs]
