"""The linear layer's product and its two gradients.

Weights are canonical, [O, K], or packed by blocks of output features (`block` > 0), [ceil(O/block), K, block] with the
missing features zero. A packed weight gives a packed gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlc.compiler.ir import N, Op, Sample, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.base import float_type, widened
from dlc.compiler.ops.contraction import packed_linear_weight, product, product_by_lanes
from dlc.compiler.ops.indexing import show, static
from dlc.compiler.ops.lowering import Lowering, Tensor, static_extent
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class LinearOp(Op):
    """What the linear ops share: `features` counts outputs (O), `bits` the significant bits of factors (see Convolution)."""

    features: int
    block: int = 0
    bits: int = 24

    def weight_shape(self, features_in: int) -> tuple[int, ...]:
        """The weight's shape, packed where `block` says so."""
        if self.block:
            return (-(-self.features // self.block), features_in, self.block)
        return (self.features, features_in)

    def _check(self, what: str, type_: TensorType, shape: Sequence[object]) -> None:
        if type_.shape != tuple(shape):
            raise ShapeError(f"{what} is {show(type_.shape)}; expected [{', '.join(map(str, shape))}]")

    def _features(self, what: str, type_: TensorType) -> int:
        if type_.rank != 2:
            raise ShapeError(f"{what} is {show(type_.shape)}; expected [N, features]")
        return static(type_.shape[1:])[0]

    def _canonical(self, weight: np.ndarray) -> np.ndarray:
        """[O, K] of a weight in either form."""
        if not self.block:
            return weight
        return weight.transpose(0, 2, 1).reshape(-1, weight.shape[1])[: self.features]

    def _packed(self, weight: np.ndarray) -> np.ndarray:
        """A canonical weight in this op's form."""
        if not self.block:
            return weight
        weight = np.pad(weight, [(0, -self.features % self.block), (0, 0)])
        return np.ascontiguousarray(weight.reshape(-1, self.block, weight.shape[1]).transpose(0, 2, 1))


@dataclass(frozen=True)
class Linear(LinearOp):
    """y[n, o] = Σ x[n, k] · weight[o, k]; the bias is a separate add."""

    def infer(self, *operands: TensorType) -> TensorType:
        x, weight = operands
        self._check("the weight", weight, self.weight_shape(self._features("the operand", x)))
        return x.sums(x.shape[0], self.features)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        x, weight = map(widened, operands)
        return np.asarray(x @ self._canonical(weight).T)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        x, weight = result.operands
        features_in = static(x.type.shape[1:])[0]
        by_input = LinearInputGradient(self.features, self.block, self.bits, features_in=features_in)
        return apply(by_input, upstream, weight), apply(
            LinearWeightGradient(self.features, self.block, self.bits), x, upstream
        )

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        x, weight = operands
        if not self.block and (block := t.block(self.features)) > 1:
            weight = packed_linear_weight(t, operands[1], self.features, int(x.shape[1]), block)
        return product(t, x, weight, self.features)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for features, features_in, block in _CASES:
            op = cls(features, block)
            yield Sample(op, (float_type(N, features_in), float_type(*op.weight_shape(features_in))))


@dataclass(frozen=True)
class LinearInputGradient(LinearOp):
    """The gradient of Linear by its operand: [N, O] and the weight to [N, features_in]."""

    features_in: int = field(kw_only=True)

    def infer(self, *operands: TensorType) -> TensorType:
        upstream, weight = operands
        self._check("the gradient", upstream, (upstream.shape[0], self.features))
        self._check("the weight", weight, self.weight_shape(self.features_in))
        return upstream.sums(upstream.shape[0], self.features_in)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        upstream, weight = map(widened, operands)
        return np.asarray(upstream @ self._canonical(weight))

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        dy, weight = result.operands
        by_weight = LinearWeightGradient(self.features, self.block, self.bits)
        return apply(Linear(self.features, self.block, self.bits), upstream, weight), apply(by_weight, upstream, dy)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        upstream, weight = operands
        block = self.block
        if block and static_extent(upstream.shape[0]) is not None and t.is_streamed(self.features * self.features_in):
            return product_by_lanes(t, upstream, weight, self.features)

        def turned(k: Any, o: Any) -> Any:
            return weight(o // block, k, o % block) if block else weight(o, k)

        packed = packed_linear_weight(t, turned, self.features_in, self.features, t.block(self.features_in))
        return product(t, upstream, packed, self.features_in)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for features, features_in, block in _CASES:
            op = cls(features, block, features_in=features_in)
            yield Sample(op, (float_type(N, features), float_type(*op.weight_shape(features_in))))


@dataclass(frozen=True)
class LinearWeightGradient(LinearOp):
    """The gradient of Linear by its weight, summed over the batch: the operand [N, K] and the gradient [N, O]."""

    def infer(self, *operands: TensorType) -> TensorType:
        x, upstream = operands
        self._check("the gradient", upstream, (x.shape[0], self.features))
        return x.sums(*self.weight_shape(self._features("the operand", x)))

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        x, upstream = map(widened, operands)
        return self._packed(upstream.T @ x)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        x, dy = result.operands
        by_input = LinearInputGradient(self.features, self.block, self.bits, features_in=static(x.type.shape[1:])[0])
        return apply(by_input, dy, upstream), apply(Linear(self.features, self.block, self.bits), x, upstream)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        x, upstream = operands
        block = self.block or t.block(self.features)
        blocks, features_in = -(-self.features // block), int(x.shape[1])
        if blocks * block > self.features:
            whole = upstream

            def padded(i: Any, o: Any) -> Any:
                return t.guarded(o < self.features, whole(i, o), 0.0)

            upstream = t.compute((x.shape[0], blocks * block), padded, "padded", {"dlc.part": "padding"})
        n = t.reduce_axis(x.shape[0], "n")

        def element(o: Any, k: Any, lane: Any) -> Any:
            return t.sum(x(n, k) * upstream(n, o * block + lane), [n])

        attributes = {"dlc.anchor": "linear_weight_gradient", "dlc.block": block}
        result = t.compute((blocks, features_in, block), element, "weight_gradient", attributes)
        if self.block:
            return result
        shape = (self.features, features_in)
        return t.compute(shape, lambda o, k: result(o // block, k, o % block), "canonical", {"dlc.part": "crop"})

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for features, features_in, block in _CASES:
            yield Sample(cls(features, block), (float_type(N, features_in), float_type(N, features)))


_CASES = [(5, 7, 0), (1, 3, 0), (10, 33, 16), (16, 4, 16), (7, 1, 4)]
"""Features out, features in, block."""


def linear(x: Value, weight: Value) -> Value:
    """[N, K] times a canonical weight [O, K], transposed: [N, O]. The bias is a separate add."""
    return apply(Linear(static(weight.type.shape)[0]), x, weight)
