"""Ops that turn and spread elements: broadcast, reshape, transpose, flatten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dlc.compiler.ir import Fusion, N, Op, Sample, Shape, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.base import broadcast, float_type, read
from dlc.compiler.ops.indexing import count, ravel, show, static, unravel
from dlc.compiler.ops.lowering import Lowering, Tensor, type_of
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class BroadcastTo(Op):
    """The operand repeated along new leading axes and axes of size 1 until it has `shape`."""

    fusion: ClassVar[Fusion] = Fusion.ELEMENTWISE
    shape: Shape

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        if x.rank > len(self.shape) or broadcast("broadcast", x.shape, self.shape) != self.shape:
            raise ShapeError(f"cannot broadcast {show(x.shape)} to {show(self.shape)}")
        return x.with_shape(*self.shape)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return np.broadcast_to(operands[0], static(self.shape)).copy()

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (upstream,)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        return t.compute(self.shape, lambda *i: read(operands[0], i), self.name)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [
            Sample(cls((N, 5, 3)), (float_type(3),)),
            Sample(cls((2, 7)), (float_type(),)),
            Sample(cls((N, 4, 3)), (float_type(N, 1, 3),)),
        ]


@dataclass(frozen=True)
class Reshape(Op):
    """The same elements in row-major order under another shape. The batch, where there is one, stays the first axis."""

    fusion: ClassVar[Fusion] = Fusion.VIEW
    shape: Shape

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        kept = (x.shape[:1] == (N,)) == (self.shape[:1] == (N,)) and N not in self.shape[1:]
        if not kept or count(x.shape) != count(self.shape):
            raise ShapeError(f"cannot reshape {show(x.shape)} to {show(self.shape)}")
        return x.with_shape(*self.shape)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return operands[0].reshape(static(self.shape))

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (reshape(upstream, result.operands[0].type.shape),)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (x,) = operands
        source = type_of(x).shape

        def element(*i: Any) -> Any:
            if source[:1] == (N,):
                return x(i[0], *unravel(ravel(i[1:], static(self.shape[1:])), static(source[1:])))
            return x(*unravel(ravel(i, static(self.shape)), static(source)))

        return t.compute(self.shape, element, self.name)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [
            Sample(cls((N, 15)), (float_type(N, 5, 3),)),
            Sample(cls((N, 3, 1, 5)), (float_type(N, 5, 3),)),
            Sample(cls((4, 3)), (float_type(2, 6),)),
            Sample(cls((1, 1)), (float_type(),)),
        ]


@dataclass(frozen=True)
class Transpose(Op):
    """Axis i of the result is axis `order[i]` of the operand. A symbolic batch stays first."""

    fusion: ClassVar[Fusion] = Fusion.INJECTIVE
    order: tuple[int, ...]

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        if sorted(self.order) != list(range(x.rank)):
            raise ShapeError(f"cannot transpose {show(x.shape)} by {list(self.order)}")
        shape = tuple(x.shape[a] for a in self.order)
        if N in shape[1:]:
            raise ShapeError(f"cannot transpose {show(x.shape)} by {list(self.order)}: the batch must stay first")
        return x.with_shape(*shape)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(operands[0].transpose(self.order)) if self.order else operands[0]

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (transpose(upstream, tuple(int(a) for a in np.argsort(self.order))),)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (x,) = operands
        return t.compute(
            self.infer(type_of(x)).shape, lambda *i: x(*(i[self.order.index(a)] for a in range(len(i)))), self.name
        )

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [
            Sample(cls((0, 2, 3, 1)), (float_type(N, 3, 5, 4),)),
            Sample(cls((0, 3, 1, 2)), (float_type(N, 5, 4, 3),)),
            Sample(cls((2, 0, 1)), (float_type(2, 3, 5),)),
        ]


@dataclass(frozen=True)
class Flatten(Op):
    """[N, H, W, C] to [N, C·H·W] in the order channels, height, width: what flattening means in the language."""

    fusion: ClassVar[Fusion] = Fusion.INJECTIVE

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        if x.rank != 4:
            raise ShapeError(f"cannot flatten {show(x.shape)}: expected [N, height, width, channels]")
        return x.with_shape(x.shape[0], count(x.shape[1:]))

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return operands[0].transpose(0, 3, 1, 2).reshape(operands[0].shape[0], -1)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        batch, height, width, channels = result.operands[0].type.shape
        return (transpose(reshape(upstream, (batch, channels, height, width)), (0, 2, 3, 1)),)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (x,) = operands
        height, width, channels = static(type_of(x).shape[1:])

        def element(n: Any, f: Any) -> Any:
            c, h, w = unravel(f, (channels, height, width))
            return x(n, h, w, c)

        return t.compute(self.infer(type_of(x)).shape, element, self.name)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        sizes = ((5, 3, 4), (1, 1, 7), (2, 1, 5), (1, 3, 2))
        return [Sample(cls(), (float_type(N, *size),)) for size in sizes]


def broadcast_to(x: Value, shape: Shape) -> Value:
    """x repeated to `shape`; x itself where it has it."""
    return x if x.type.shape == shape else apply(BroadcastTo(shape), x)


def reshape(x: Value, shape: Shape) -> Value:
    """x under another shape; x itself where it has it."""
    return x if x.type.shape == shape else apply(Reshape(shape), x)


def transpose(x: Value, order: Sequence[int]) -> Value:
    """Axis i of the result is axis `order[i]` of x."""
    return apply(Transpose(tuple(order)), x)


def flatten(x: Value) -> Value:
    """[N, H, W, C] to [N, C·H·W], channels first; [N, F] stays."""
    return x if x.type.rank == 2 else apply(Flatten(), x)
