"""Reductions over axes: sum, mean, maximum, minimum."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dlc.compiler.ir import Dim, Fusion, N, NotDifferentiable, Op, Sample, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.base import float_type
from dlc.compiler.ops.elementwise import cast, divide, equal, multiply
from dlc.compiler.ops.indexing import count
from dlc.compiler.ops.lowering import Lowering, Tensor, type_of
from dlc.compiler.ops.shape import broadcast_to, reshape
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Reduction(Op):
    """A fold over `axes` (counted from 0, ascending); `keep` leaves them with size 1."""

    fusion: ClassVar[Fusion] = Fusion.REDUCTION
    axes: tuple[int, ...]
    keep: bool = False

    @abstractmethod
    def fold(self, t: Lowering, x: Any, axis: Sequence[Any]) -> Any:
        """The reduce expression of one element, as the whole body of a compute."""

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        if (
            not self.axes
            or list(self.axes) != sorted(set(self.axes))
            or not 0 <= self.axes[0] <= self.axes[-1] < x.rank
        ):
            raise ShapeError(f"cannot reduce {x} over axes {list(self.axes)}")
        return x.with_shape(*self._shape(x.shape, self.keep))

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        return self._lower_fold(t, operands[0], self.name)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        axes: list[tuple[tuple[int, ...], bool]] = [((2,), False), ((0, 1), True), ((0, 1, 2), False), ((1,), True)]
        return [Sample(cls(a, k), (float_type(N, 5, 3),), distinct=True) for a, k in axes]

    def _lower_fold(self, t: Lowering, x: Tensor, name: str) -> Tensor:
        shape = type_of(x).shape
        reduced = {a: t.reduce_axis(t.extent(shape[a]), f"r{a}") for a in self.axes}

        def element(*i: Any) -> Any:
            kept = iter(i)
            indices: list[Any] = []
            for axis in range(len(shape)):
                own = next(kept) if self.keep or axis not in reduced else None
                indices.append(reduced.get(axis, own))
            return self.fold(t, x(*indices), list(reduced.values()))

        return t.compute(self._shape(shape, self.keep), element, name)

    def _shape(self, shape: Sequence[Dim], keep: bool) -> tuple[Dim, ...]:
        return tuple(1 if a in self.axes else d for a, d in enumerate(shape) if keep or a not in self.axes)

    def _spread(self, value: Value, like: Value) -> Value:
        """A value of the result's shape, its reduced axes back with size 1."""
        return reshape(value, self._shape(like.type.shape, True))


@dataclass(frozen=True)
class Sum(Reduction):
    """The sum over `axes`."""

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return np.asarray(operands[0].sum(self.axes, keepdims=self.keep, dtype=operands[0].dtype))

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        (x,) = result.operands
        return (broadcast_to(self._spread(upstream, x), x.type.shape),)

    def fold(self, t: Lowering, x: Any, axis: Sequence[Any]) -> Any:
        return t.sum(x, axis)


@dataclass(frozen=True)
class Mean(Reduction):
    """The mean over `axes`; the batch counts with the number of samples of the run."""

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return np.asarray(operands[0].mean(self.axes, keepdims=self.keep, dtype=operands[0].dtype))

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        (x,) = result.operands
        sizes = [x.type.shape[a] for a in self.axes]
        if N in sizes:
            raise NotDifferentiable("mean over a batch of unknown size; training fixes the batch")
        scaled = multiply(upstream, 1.0 / count(tuple(sizes)))
        return (broadcast_to(self._spread(scaled, x), x.type.shape),)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (x,) = operands
        type_ = type_of(x)
        total = self._lower_fold(t, x, "mean_sum")
        number: Any = 1
        for axis in self.axes:
            number = number * t.extent(type_.shape[axis])

        def element(*i: Any) -> Any:
            if isinstance(number, int):
                return total(*i) * t.maths.constant(1.0 / number, type_.dtype)
            return total(*i) / t.maths.cast(number, type_.dtype)

        return t.compute(self._shape(type_.shape, self.keep), element, self.name)

    def fold(self, t: Lowering, x: Any, axis: Sequence[Any]) -> Any:
        return t.sum(x, axis)


@dataclass(frozen=True)
class Extremum(Reduction):
    """A maximum or minimum; equal extrema share the gradient evenly (as PyTorch's amax)."""

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        (x,) = result.operands
        hits = cast(equal(x, self._spread(result, x)), upstream.type.dtype)
        share = divide(self._spread(upstream, x), reduce_sum(hits, self.axes, keep=True))
        return (multiply(hits, share),)


@dataclass(frozen=True)
class Max(Extremum):
    """The maximum over `axes`."""

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return np.asarray(operands[0].max(self.axes, keepdims=self.keep))

    def fold(self, t: Lowering, x: Any, axis: Sequence[Any]) -> Any:
        return t.max(x, axis)


@dataclass(frozen=True)
class Min(Extremum):
    """The minimum over `axes`."""

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return np.asarray(operands[0].min(self.axes, keepdims=self.keep))

    def fold(self, t: Lowering, x: Any, axis: Sequence[Any]) -> Any:
        return t.min(x, axis)


Axes = int | Sequence[int]
"""One axis or several; negative ones count from the last."""


def _normal(x: Value, axes: Axes) -> tuple[int, ...]:
    given = [axes] if isinstance(axes, int) else list(axes)
    for axis in given:
        if not -x.type.rank <= axis < x.type.rank:
            raise ShapeError(f"{x.type} has no axis {axis}")
    return tuple(sorted({a % x.type.rank for a in given}))


def reduce_sum(x: Value, axes: Axes, keep: bool = False) -> Value:
    """The sum over axes."""
    return apply(Sum(_normal(x, axes), keep), x)


def mean(x: Value, axes: Axes, keep: bool = False) -> Value:
    """The mean over axes."""
    return apply(Mean(_normal(x, axes), keep), x)


def reduce_max(x: Value, axes: Axes, keep: bool = False) -> Value:
    """The maximum over axes."""
    return apply(Max(_normal(x, axes), keep), x)


def reduce_min(x: Value, axes: Axes, keep: bool = False) -> Value:
    """The minimum over axes."""
    return apply(Min(_normal(x, axes), keep), x)
