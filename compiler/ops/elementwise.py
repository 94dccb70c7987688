"""Element-wise arithmetic, comparison, choice and casts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dlc.compiler.ir import DType, N, Sample, Shape, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.base import Elementwise, Operand, applied, binary_samples, constant, float_type, unary_samples


@dataclass(frozen=True)
class Add(Elementwise):
    """x + y."""

    def formula(self, m: Any, x: Any, y: Any) -> Any:
        return x + y

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return upstream, upstream

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        integers = TensorType((N, 3), DType.INT32)
        return [*binary_samples(cls()), Sample(cls(), (integers, integers), differentiable=False)]


@dataclass(frozen=True)
class Subtract(Elementwise):
    """x - y."""

    def formula(self, m: Any, x: Any, y: Any) -> Any:
        return x - y

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return upstream, negative(upstream)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return binary_samples(cls())


@dataclass(frozen=True)
class Multiply(Elementwise):
    """x · y."""

    def formula(self, m: Any, x: Any, y: Any) -> Any:
        return x * y

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        x, y = result.operands
        return multiply(upstream, y), multiply(upstream, x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return binary_samples(cls())


@dataclass(frozen=True)
class Divide(Elementwise):
    """x / y, of floats."""

    def formula(self, m: Any, x: Any, y: Any) -> Any:
        return x / y

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        by_x = divide(upstream, result.operands[1])
        return by_x, negative(multiply(by_x, result))

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return binary_samples(cls(), low=0.5)


@dataclass(frozen=True)
class Maximum(Elementwise):
    """The larger of x and y. At a tie each gets half of the gradient (as PyTorch)."""

    def formula(self, m: Any, x: Any, y: Any) -> Any:
        return m.maximum(x, y)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        x, y = result.operands
        to_x = multiply(upstream, _share(greater(x, y), greater_equal(x, y), upstream))
        return to_x, subtract(upstream, to_x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return binary_samples(cls())


@dataclass(frozen=True)
class Minimum(Elementwise):
    """The smaller of x and y. At a tie each gets half of the gradient (as PyTorch)."""

    def formula(self, m: Any, x: Any, y: Any) -> Any:
        return m.minimum(x, y)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        x, y = result.operands
        to_x = multiply(upstream, _share(less(x, y), less_equal(x, y), upstream))
        return to_x, subtract(upstream, to_x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return binary_samples(cls())


def _share(wins: Value, wins_or_ties: Value, upstream: Value) -> Value:
    """1 where the first operand wins, a half at a tie, else 0."""
    dtype = upstream.type.dtype
    return multiply(add(cast(wins, dtype), cast(wins_or_ties, dtype)), 0.5)


@dataclass(frozen=True)
class Power(Elementwise):
    """x to the power y. Differentiable by both for x > 0; by x alone wherever the power is smooth."""

    def formula(self, m: Any, x: Any, y: Any) -> Any:
        return m.power(x, y)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        x, y = result.operands
        by_x = multiply(upstream, multiply(y, power(x, subtract(y, 1.0))))
        by_y = multiply(upstream, multiply(result, log(x)))
        return by_x, by_y

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return binary_samples(cls(), low=0.5)


@dataclass(frozen=True)
class Negative(Elementwise):
    """-x."""

    def formula(self, m: Any, x: Any) -> Any:
        return -x

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (negative(upstream),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls())


@dataclass(frozen=True)
class Log(Elementwise):
    """The natural logarithm."""

    def formula(self, m: Any, x: Any) -> Any:
        return m.log(x)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (divide(upstream, result.operands[0]),)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return unary_samples(cls(), low=0.1)


@dataclass(frozen=True)
class Cast(Elementwise):
    """x in another element type; floats to integers round towards zero. Gradients flow between floats only."""

    to: DType

    def formula(self, m: Any, x: Any) -> Any:
        return m.cast(x, self.to)

    def dtype(self, *operands: DType) -> DType:
        return self.to

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        source = result.operands[0].type.dtype
        return (cast(upstream, source) if source.is_float and self.to.is_float else None,)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        sources = {
            DType.BOOL: DType.FLOAT32,
            DType.UINT32: DType.FLOAT32,
            DType.INT32: DType.FLOAT32,
            DType.FLOAT32: DType.INT32,
        }
        return [
            Sample(cls(to), (TensorType((N, 5), dtype),), differentiable=False) for dtype, to in sources.items()
        ] + [Sample(cls(DType.FLOAT32), (float_type(N, 5),))]


@dataclass(frozen=True)
class Where(Elementwise):
    """x where the condition (bool) holds, else y."""

    def formula(self, m: Any, condition: Any, x: Any, y: Any) -> Any:
        return m.where(condition, x, y)

    def dtype(self, *operands: DType) -> DType:
        condition, x, y = operands
        if condition is not DType.BOOL or x is not y:
            raise ShapeError(f"cannot choose by {condition} between {x} and {y}")
        return x

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        condition = result.operands[0]
        return None, where(condition, upstream, 0.0), where(condition, 0.0, upstream)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        shapes: list[tuple[Shape, Shape, Shape]] = [((N, 5), (N, 5), (N, 5)), ((N, 1), (), (N, 3)), ((3,), (N, 3), ())]
        return [Sample(cls(), (TensorType(c, DType.BOOL), float_type(*x), float_type(*y))) for c, x, y in shapes]


@dataclass(frozen=True)
class Comparison(Elementwise):
    """A boolean from two numbers; no gradient flows through it."""

    def dtype(self, *operands: DType) -> DType:
        super().dtype(*operands)
        return DType.BOOL

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return None, None

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        integers = TensorType((N, 7), DType.INT32)
        op = cls()
        return [*binary_samples(op, differentiable=False), Sample(op, (integers, integers), differentiable=False)]


@dataclass(frozen=True)
class Equal(Comparison):
    """x = y."""

    def formula(self, m: Any, x: Any, y: Any) -> Any:
        return m.equal(x, y)


@dataclass(frozen=True)
class Greater(Comparison):
    """x > y."""

    def formula(self, m: Any, x: Any, y: Any) -> Any:
        return x > y


@dataclass(frozen=True)
class GreaterEqual(Comparison):
    """x ≥ y."""

    def formula(self, m: Any, x: Any, y: Any) -> Any:
        return x >= y


@dataclass(frozen=True)
class Less(Comparison):
    """x < y."""

    def formula(self, m: Any, x: Any, y: Any) -> Any:
        return x < y


@dataclass(frozen=True)
class LessEqual(Comparison):
    """x ≤ y."""

    def formula(self, m: Any, x: Any, y: Any) -> Any:
        return x <= y


def add(x: Operand, y: Operand) -> Value:
    """x + y."""
    return applied(Add(), x, y)


def subtract(x: Operand, y: Operand) -> Value:
    """x - y."""
    return applied(Subtract(), x, y)


def multiply(x: Operand, y: Operand) -> Value:
    """x · y."""
    return applied(Multiply(), x, y)


def divide(x: Operand, y: Operand) -> Value:
    """x / y."""
    return applied(Divide(), x, y)


def maximum(x: Operand, y: Operand) -> Value:
    """The larger one."""
    return applied(Maximum(), x, y)


def minimum(x: Operand, y: Operand) -> Value:
    """The smaller one."""
    return applied(Minimum(), x, y)


def power(x: Operand, y: Operand) -> Value:
    """x to the power y."""
    return applied(Power(), x, y)


def negative(x: Value) -> Value:
    """-x."""
    return apply(Negative(), x)


def log(x: Value) -> Value:
    """The natural logarithm."""
    return apply(Log(), x)


def cast(x: Value, dtype: DType) -> Value:
    """x in another element type; x itself where it has it already."""
    return x if x.type.dtype is dtype else apply(Cast(dtype), x)


def where(condition: Value, x: Operand, y: Operand) -> Value:
    """x where the condition holds, else y."""
    dtype = next((v.type.dtype for v in (x, y) if isinstance(v, Value)), DType.FLOAT32)
    return apply(Where(), condition, *(v if isinstance(v, Value) else constant(v, dtype) for v in (x, y)))


def equal(x: Operand, y: Operand) -> Value:
    """Whether x = y (bool)."""
    return applied(Equal(), x, y)


def greater(x: Operand, y: Operand) -> Value:
    """Whether x > y (bool)."""
    return applied(Greater(), x, y)


def greater_equal(x: Operand, y: Operand) -> Value:
    """Whether x ≥ y (bool)."""
    return applied(GreaterEqual(), x, y)


def less(x: Operand, y: Operand) -> Value:
    """Whether x < y (bool)."""
    return applied(Less(), x, y)


def less_equal(x: Operand, y: Operand) -> Value:
    """Whether x ≤ y (bool)."""
    return applied(LessEqual(), x, y)
