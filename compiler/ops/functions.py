"""Element-wise functions of one operand: exponentials, roots, activations, rounding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dlc.compiler.ir import Sample, Value, apply
from dlc.compiler.ops.base import Elementwise, unary_samples
from dlc.compiler.ops.elementwise import add, divide, greater, less, less_equal, multiply, subtract, where


@dataclass(frozen=True)
class Exp(Elementwise):
    """e to the power x."""

    def formula(self, m: Any, x: Any) -> Any:
        return m.exp(x)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (multiply(upstream, result),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls())


@dataclass(frozen=True)
class Expm1(Elementwise):
    """e to the power x, minus 1, accurate for small x (W. Kahan: (u-1)·x / log u with u = exp x)."""

    def formula(self, m: Any, x: Any) -> Any:
        u = m.exp(x)
        small = m.where(m.equal(u, 1.0), x, (u - 1.0) * x / m.log(u))
        return m.where(x > 1.0, u - 1.0, m.where(x < -17.0, u - 1.0, small))

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (multiply(upstream, add(result, 1.0)),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [*unary_samples(cls()), *unary_samples(cls(), low=-1e-5, high=1e-5), *unary_samples(cls(), low=-90.0)]


@dataclass(frozen=True)
class Log1p(Elementwise):
    """log(1 + x), accurate for small x (W. Kahan: x · log u / (u - 1) with u = 1 + x)."""

    def formula(self, m: Any, x: Any) -> Any:
        u = x + 1.0
        return m.where(m.equal(u, 1.0), x, m.log(u) * x / (u - 1.0))

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (divide(upstream, add(result.operands[0], 1.0)),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [*unary_samples(cls(), low=-0.9), *unary_samples(cls(), low=-1e-5, high=1e-5)]


@dataclass(frozen=True)
class Sqrt(Elementwise):
    """The square root."""

    def formula(self, m: Any, x: Any) -> Any:
        return m.sqrt(x)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (divide(multiply(upstream, 0.5), result),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls(), low=0.1)


@dataclass(frozen=True)
class Tanh(Elementwise):
    """The hyperbolic tangent."""

    def formula(self, m: Any, x: Any) -> Any:
        return m.tanh(x)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (multiply(upstream, subtract(1.0, multiply(result, result))),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [*unary_samples(cls()), *unary_samples(cls(), low=-90.0, high=90.0)]


@dataclass(frozen=True)
class Sigmoid(Elementwise):
    """1 / (1 + exp(-x))."""

    def formula(self, m: Any, x: Any) -> Any:
        return 1.0 / (m.exp(-x) + 1.0)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (multiply(upstream, multiply(result, subtract(1.0, result))),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [*unary_samples(cls()), *unary_samples(cls(), low=-90.0, high=90.0)]


@dataclass(frozen=True)
class Erf(Elementwise):
    """The error function, 2/√π · ∫ exp(-t²) dt from 0 to x."""

    def formula(self, m: Any, x: Any) -> Any:
        return m.erf(x)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        x = result.operands[0]
        return (multiply(upstream, multiply(exp(multiply(multiply(x, x), -1.0)), 2.0 / math.sqrt(math.pi))),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [*unary_samples(cls()), *unary_samples(cls(), low=-9.0, high=9.0)]


@dataclass(frozen=True)
class Abs(Elementwise):
    """The magnitude; its gradient at 0 is 0 (as PyTorch)."""

    def formula(self, m: Any, x: Any) -> Any:
        return m.absolute(x)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (multiply(upstream, sign(result.operands[0])),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls())


@dataclass(frozen=True)
class Sign(Elementwise):
    """-1, 0 or 1; its gradient is 0."""

    def formula(self, m: Any, x: Any) -> Any:
        return m.where(x > 0.0, 1.0, m.where(x < 0.0, -1.0, x))

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (None,)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls())


@dataclass(frozen=True)
class Floor(Elementwise):
    """The largest whole number not above x; its gradient is 0."""

    def formula(self, m: Any, x: Any) -> Any:
        return m.floor(x)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (None,)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls())


@dataclass(frozen=True)
class Relu(Elementwise):
    """max(x, 0); its gradient at 0 is 0 (as PyTorch)."""

    def formula(self, m: Any, x: Any) -> Any:
        return m.maximum(x, 0.0)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (where(greater(result, 0.0), upstream, 0.0),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls())


@dataclass(frozen=True)
class Clip(Elementwise):
    """x held between `low` and `high`; the gradient passes where low ≤ x ≤ high (as PyTorch's clamp)."""

    low: float
    high: float

    def formula(self, m: Any, x: Any) -> Any:
        return m.minimum(m.maximum(x, self.low), self.high)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        x = result.operands[0]
        inside = where(less(x, self.low), 0.0, where(less_equal(x, self.high), upstream, 0.0))
        return (inside,)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls(-0.5, 1.0))


@dataclass(frozen=True)
class Detach(Elementwise):
    """x itself, as a constant to differentiation (the maximum that a softmax subtracts)."""

    def formula(self, m: Any, x: Any) -> Any:
        return x

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (None,)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls(), differentiable=False)


def exp(x: Value) -> Value:
    """e to the power x."""
    return apply(Exp(), x)


def expm1(x: Value) -> Value:
    """e to the power x, minus 1."""
    return apply(Expm1(), x)


def log1p(x: Value) -> Value:
    """log(1 + x)."""
    return apply(Log1p(), x)


def sqrt(x: Value) -> Value:
    """The square root."""
    return apply(Sqrt(), x)


def tanh(x: Value) -> Value:
    """The hyperbolic tangent."""
    return apply(Tanh(), x)


def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x))."""
    return apply(Sigmoid(), x)


def erf(x: Value) -> Value:
    """The error function."""
    return apply(Erf(), x)


def absolute(x: Value) -> Value:
    """The magnitude."""
    return apply(Abs(), x)


def sign(x: Value) -> Value:
    """-1, 0 or 1."""
    return apply(Sign(), x)


def floor(x: Value) -> Value:
    """The largest whole number not above x."""
    return apply(Floor(), x)


def relu(x: Value) -> Value:
    """max(x, 0)."""
    return apply(Relu(), x)


def clip(x: Value, low: float, high: float) -> Value:
    """x held between `low` and `high`."""
    return apply(Clip(low, high), x)


def detach(x: Value) -> Value:
    """x, as a constant to differentiation."""
    return apply(Detach(), x)
