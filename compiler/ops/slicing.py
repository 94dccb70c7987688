"""Ops that take parts and put parts together: pad, slice, concat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dlc.compiler.ir import Dim, Fusion, N, Op, Sample, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.base import float_type
from dlc.compiler.ops.indexing import show, static
from dlc.compiler.ops.lowering import Lowering, Tensor, type_of
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Pad(Op):
    """`before` and `after` elements of `value` around each axis, and `interior` ones between neighbours (default none)."""

    fusion: ClassVar[Fusion] = Fusion.INJECTIVE
    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float = 0.0
    interior: tuple[int, ...] = ()

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        sides = (self.before, self.after, self._interior)
        if any(len(s) != x.rank for s in sides) or min((*self.before, *self.after, *self._interior, 0)) < 0:
            raise ShapeError(f"cannot pad {show(x.shape)} by {list(self.before)} and {list(self.after)}")
        return x.with_shape(*map(self._size, x.shape, *sides))

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        sizes = [
            self._size(d, b, a, i) for d, b, a, i in zip(x.shape, self.before, self.after, self._interior, strict=True)
        ]
        result = np.full(static(tuple(sizes)), self.value, x.dtype)
        steps = zip(self.before, self._interior, x.shape, strict=True)
        result[tuple(slice(b, b + (n - 1) * (i + 1) + 1 if n else b, i + 1) for b, i, n in steps)] = x
        return result

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        shape = result.operands[0].type.shape
        steps = tuple(i + 1 for i in self._interior)
        stop = tuple(
            None if d is N else b + (int(d) - 1) * s + 1 for d, b, s in zip(shape, self.before, steps, strict=True)
        )
        return (strided_slice(upstream, self.before, stop, steps),)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (x,) = operands
        shape = type_of(x).shape

        def element(*i: Any) -> Any:
            conditions: list[Any] = []
            indices: list[Any] = []
            for axis, extent, low, high, gap in zip(i, shape, self.before, self.after, self._interior, strict=True):
                at = axis - low if low else axis
                if low:
                    conditions.append(axis >= low)
                if high:
                    conditions.append(axis < low + (static((extent,))[0] - 1) * (gap + 1) + 1)
                if gap:
                    conditions.append(t.maths.equal(at % (gap + 1), 0))
                    at = at // (gap + 1)
                indices.append(at)
            if not conditions:
                return x(*indices)
            return t.guarded(t.all_of(*conditions), x(*indices), t.maths.constant(self.value, type_of(x).dtype))

        return t.compute(self.infer(type_of(x)).shape, element, self.name)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [
            Sample(cls((0, 1, 2, 0), (0, 3, 1, 0)), (float_type(N, 5, 3, 2),)),
            Sample(cls((0, 0, 0, 1), (0, 0, 0, 2), -1.5), (float_type(N, 3, 3, 2),)),
            Sample(cls((1, 0), (0, 2), 1.0, (1, 2)), (float_type(3, 4),)),
        ]

    @property
    def _interior(self) -> tuple[int, ...]:
        return self.interior or (0,) * len(self.before)

    def _size(self, size: Dim, before: int, after: int, interior: int) -> Dim:
        if size is N:
            if before or after or interior:
                raise ShapeError("cannot pad the batch")
            return N
        return before + (int(size) - 1) * (interior + 1) + 1 + after if size else before + after


@dataclass(frozen=True)
class Slice(Op):
    """Elements `start` to `stop` (excluded; None: the end) of each axis, every `step`-th."""

    fusion: ClassVar[Fusion] = Fusion.INJECTIVE
    start: tuple[int, ...]
    stop: tuple[int | None, ...]
    step: tuple[int, ...] = ()

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        if not len(self.start) == len(self.stop) == len(self._step) == x.rank:
            raise ShapeError(f"cannot slice {show(x.shape)} by {len(self.start)} axes")
        return x.with_shape(*map(self._size, x.shape, self.start, self.stop, self._step))

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return operands[0][tuple(map(slice, self.start, self.stop, self._step))].copy()

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        before, after, interior = [], [], []
        sizes = zip(result.operands[0].type.shape, result.type.shape, self.start, self._step, strict=True)
        for size, taken, start, step in sizes:
            before.append(start)
            after.append(0 if size is N else int(size) - start - (int(taken) - 1) * step - 1)  # type: ignore[arg-type]  # both are N or none
            interior.append(step - 1)
        return (pad(upstream, tuple(before), tuple(after), 0.0, tuple(interior)),)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (x,) = operands

        def element(*i: Any) -> Any:
            scaled = (a if s == 1 else a * s for a, s in zip(i, self._step, strict=True))
            return x(*(a + b if b else a for a, b in zip(scaled, self.start, strict=True)))

        return t.compute(self.infer(type_of(x)).shape, element, self.name)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [
            Sample(cls((0, 1, 0), (None, 4, None)), (float_type(N, 5, 3),)),
            Sample(cls((0, 1, 2), (None, None, 7), (1, 2, 3)), (float_type(N, 5, 8),)),
            Sample(cls((2,), (3,)), (float_type(7),)),
        ]

    @property
    def _step(self) -> tuple[int, ...]:
        return self.step or (1,) * len(self.start)

    def _size(self, size: Dim, start: int, stop: int | None, step: int) -> Dim:
        if size is N:
            if start or stop is not None or step != 1:
                raise ShapeError("cannot slice the batch")
            return N
        end = int(size) if stop is None else stop
        if not 0 <= start < end <= int(size) or step < 1:
            raise ShapeError(f"cannot take {start}..{end} (step {step}) of an axis of {size}")
        return -(-(end - start) // step)


@dataclass(frozen=True)
class Concat(Op):
    """The operands one after another along `axis`; they agree in all other axes."""

    fusion: ClassVar[Fusion] = Fusion.INJECTIVE
    axis: int

    def infer(self, *operands: TensorType) -> TensorType:
        first = operands[0]
        shapes = " and ".join(show(o.shape) for o in operands)
        if not 0 <= self.axis < first.rank or any(
            first.shape[self.axis] is N or o.rank != first.rank for o in operands
        ):
            raise ShapeError(f"cannot concatenate {shapes} along axis {self.axis}")
        others = {(o.shape[: self.axis], o.shape[self.axis + 1 :], o.dtype) for o in operands}
        if len(others) > 1:
            raise ShapeError(f"cannot concatenate {shapes} along axis {self.axis}: all other axes must agree")
        shape = list(first.shape)
        shape[self.axis] = sum(self._sizes(operands))
        return first.with_shape(*shape)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return np.concatenate(operands, self.axis)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        rank = result.type.rank
        gradients, at = [], 0
        for size in self._sizes([o.type for o in result.operands]):
            start, stop = [0] * rank, [None if d is N else int(d) for d in result.type.shape]
            start[self.axis], stop[self.axis] = at, at + size
            gradients.append(strided_slice(upstream, tuple(start), tuple(stop)))
            at += size
        return gradients

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        types = [type_of(o) for o in operands]
        sizes = self._sizes(types)

        def element(*i: Any) -> Any:
            at = i[self.axis]
            end = sum(sizes) - sizes[-1]
            result = operands[-1](*i[: self.axis], at - end, *i[self.axis + 1 :])
            for operand, size in zip(reversed(operands[:-1]), reversed(sizes[:-1]), strict=True):
                own = operand(*i[: self.axis], at - (end - size), *i[self.axis + 1 :])
                result = t.guarded(at < end, own, result)
                end -= size
            return result

        return t.compute(self.infer(*types).shape, element, self.name)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        parts = tuple(float_type(N, 3, 2, c) for c in (1, 4, 3))
        return [
            Sample(cls(3), parts),
            Sample(cls(1), (float_type(N, 2), float_type(N, 5))),
            Sample(cls(0), (float_type(2, 3), float_type(1, 3))),
            Sample(cls(1), (float_type(N, 3),)),
        ]

    def _sizes(self, operands: Sequence[TensorType]) -> list[int]:
        return [int(o.shape[self.axis]) for o in operands]  # type: ignore[arg-type]  # infer refuses the batch


def pad(
    x: Value, before: Sequence[int], after: Sequence[int], value: float = 0.0, interior: Sequence[int] = ()
) -> Value:
    """x with `value` around (and between) its elements, one number of elements per axis."""
    return apply(Pad(tuple(before), tuple(after), value, tuple(interior)), x)


def strided_slice(x: Value, start: Sequence[int], stop: Sequence[int | None], step: Sequence[int] = ()) -> Value:
    """Elements `start` to `stop` (excluded; None: the end) of each axis, every `step`-th."""
    return apply(Slice(tuple(start), tuple(stop), tuple(step)), x)


def concat(values: Sequence[Value], axis: int = -1) -> Value:
    """The values one after another along an axis (default: the last, the channels)."""
    return apply(Concat(axis % values[0].type.rank), *values)
