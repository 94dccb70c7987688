"""Folding for inference: what depends on weights alone is computed once, at compile time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dlc.compiler.interpret import evaluate
from dlc.compiler.ir import Graph, Parameter, Source, Value, source
from dlc.compiler.ops.convolution import Conv2d
from dlc.compiler.ops.elementwise import Add, Divide, Multiply, Subtract, add, divide, multiply, negative
from dlc.compiler.ops.linear import Linear
from dlc.compiler.ops.shape import reshape
from dlc.compiler.passes.rewrite import constant_number, is_weight, like, only_weights, rewrite

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class FoldConstants:
    """Values that depend on weights alone become weights: parameters "derived.0", "derived.1", … of canonical form.

    Computed in float64 and rounded once.
    """

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, dict[str, np.ndarray]]:
        """The graph, and the weights that it still reads."""
        fixed = only_weights(graph)
        needed = {o for v in graph.values if not fixed[v] for o in v.operands if fixed[o]}
        needed |= {v for v in (*graph.outputs.values(), *graph.updates.values()) if fixed[v]}
        folded = [v for v in graph.values if v in needed and not isinstance(v.op, Source)]
        kept = dict(weights)
        replaced: dict[Value, Value] = {}
        exact = {k: a.astype(np.float64) if a.dtype.kind == "f" else a for k, a in weights.items()}
        for number, (value, array) in enumerate(zip(folded, evaluate(folded, exact), strict=True)):
            key = f"derived.{number}"
            kept[key] = np.ascontiguousarray(array.astype(value.type.dtype.numpy))
            replaced[value] = source(Parameter(key, value.type, trainable=False), value.span, value.label)
        graph = graph.rewrite(replaced) if replaced else graph
        used = [v.op.key for v in graph.parameters if isinstance(v.op, Source)]
        return graph, {key: kept[key] for key in used}


@dataclass(frozen=True)
class FoldBatchNorm:
    """Per-channel scales behind a convolution or a linear layer move into its weights, shifts into one bias.

    conv(x, w) · s → conv(x, w · s);  (y + b) · s → y · s + b · s;  (y + b) + c → y + (b + c). The vectors are computed from
    parameters: `FoldConstants` turns them into weights.
    """

    def __call__(self, graph: Graph) -> Graph:
        """The graph with the scales moved."""
        folding = _Folding(graph)
        return rewrite(
            graph, folding.normal_form, folding.shift_of_shift, folding.scale_of_shift, folding.scale_of_product
        )


class _Folding:
    def __init__(self, graph: Graph) -> None:
        self.updated = set(graph.updates)
        self.shared = {self._product_key(v) for v, users in graph.users.items() if len(users) > 1}
        self.shared |= {self._product_key(v) for v in graph.outputs.values()}
        self.fixed: dict[Value, bool] = {}

    def _product_key(self, value: Value) -> object:
        """Tells a convolution or linear value of the original graph, whose operands may have been rebuilt since."""
        return (value.op, value.operands[1]) if isinstance(value.op, Conv2d | Linear) else None

    def is_fixed(self, value: Value) -> bool:
        """Whether a value depends on weights alone."""
        if value not in self.fixed:
            if isinstance(value.op, Source):
                self.fixed[value] = is_weight(value) and value not in self.updated
            else:
                self.fixed[value] = all(self.is_fixed(o) for o in value.operands)
        return self.fixed[value]

    def _vector(self, value: Value, of: Value) -> bool:
        """Whether `value` is computed from weights and has one element for each channel of `of`, or one in all."""
        shape = value.type.shape
        return len(shape) < of.type.rank and shape in ((of.type.shape[-1],), ()) and self.is_fixed(value)

    def _split(self, value: Value, kind: type) -> tuple[Value, Value] | None:
        """The activation and the vector of `activation op vector`, in either order."""
        if not isinstance(value.op, kind):
            return None
        x, y = value.operands
        if self._vector(y, x):
            return x, y
        return (y, x) if self._vector(x, y) else None

    def _folds(self, value: Value) -> bool:
        """Whether a scale behind a value ends up in weights."""
        if isinstance(value.op, Conv2d | Linear):
            return (
                value.op.block == 0 and self.is_fixed(value.operands[1]) and self._product_key(value) not in self.shared
            )
        inner = self._split(value, Add)
        return inner is not None and self._folds(inner[0])

    def normal_form(self, value: Value) -> Value | None:
        """y - c → y + (-c) and y / s → y · (1 / s), behind a product."""
        if not isinstance(value.op, Subtract | Divide):
            return None
        x, y = value.operands
        if not self._vector(y, x) or not self._folds(x):
            return None
        if isinstance(value.op, Subtract):
            return like(value, add, x, negative(y))
        return like(value, multiply, x, divide(1.0, y))

    def shift_of_shift(self, value: Value) -> Value | None:
        """(y + b) + c → y + (b + c)."""
        outer = self._split(value, Add)
        inner = self._split(outer[0], Add) if outer else None
        if outer is None or inner is None or not self._folds(inner[0]):
            return None
        return like(value, add, inner[0], add(inner[1], outer[1]))

    def scale_of_shift(self, value: Value) -> Value | None:
        """(y + b) · s → y · s + b · s."""
        outer = self._split(value, Multiply)
        inner = self._split(outer[0], Add) if outer else None
        if outer is None or inner is None or not self._folds(inner[0]):
            return None
        return like(value, add, like(value, multiply, inner[0], outer[1]), multiply(inner[1], outer[1]))

    def scale_of_product(self, value: Value) -> Value | None:
        """conv(x, w) · s → conv(x, w · s)."""
        found = self._split(value, Multiply)
        if found is None or not isinstance(found[0].op, Conv2d | Linear) or not self._folds(found[0]):
            return None
        product, scale = found
        if constant_number(scale) == 1:
            return product
        x, weight = product.operands
        if scale.type.rank:
            channels = scale.type.shape[0]
            scale = reshape(scale, (channels, *(1 for _ in weight.type.shape[1:])))
        return Value(product.op, (x, multiply(weight, scale)), product.type, product.span, product.label)
