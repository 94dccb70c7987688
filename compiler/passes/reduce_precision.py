"""Reduced precision: factors of products in 16 bits, and with them what lies in memory between products."""

from __future__ import annotations

from dataclasses import dataclass

from dlc.compiler.ir import DType, Fusion, Graph, Parameter, Value, apply, source
from dlc.compiler.ir.types import TensorType
from dlc.compiler.ops.convolution import Convolution
from dlc.compiler.ops.elementwise import Cast, cast
from dlc.compiler.ops.linear import LinearOp
from dlc.compiler.ops.pooling import AvgPool, MaxPool, MinPool

_PRODUCTS = (Convolution, LinearOp)


@dataclass(frozen=True)
class ReducePrecision:
    """x·w → r(x)·r(w) for every convolution, linear layer and gradient of one, with r(x) of type `dtype`; sums stay float32.

    What a product reads is rounded where it is computed, and everything else reads the rounded value too, so that memory
    holds 16 bits. Pools and what only moves elements work on rounded values. The graph's outputs, norms, losses, reductions
    and updates stay float32. Weights that only products read are rounded ahead of time.
    """

    dtype: DType

    def __call__(self, graph: Graph) -> Graph:
        """The graph with its products in 16 bits."""
        rounded = _rounded(graph)
        narrow: dict[Value, Value] = {}
        wide: dict[Value, Value] = {}
        for value in graph.values:
            if value in rounded and isinstance(value.op, Parameter) and value not in graph.updates:
                op = value.op
                typed = TensorType(value.type.shape, self.dtype)
                narrow[value] = source(Parameter(op.key, typed, op.trainable, op.layout), value.span, value.label)
                if any(not isinstance(u.op, _PRODUCTS) for u in graph.users[value]):
                    narrow[value] = cast(value, self.dtype)
                wide[value] = value
            elif isinstance(value.op, _PRODUCTS):
                self._set(value, [narrow[o] for o in value.operands], rounded, narrow, wide)
            elif value in rounded and _moves(value):
                made = apply(value.op, *(narrow[o] for o in value.operands), span=value.span, label=value.label)
                narrow[value], wide[value] = made, cast(made, DType.FLOAT32)
            else:
                self._set(value, [wide[o] for o in value.operands], rounded, narrow, wide)
        return Graph(
            graph.name,
            graph.inputs,
            {name: _exact(wide[v]) for name, v in graph.outputs.items()},
            {wide[p]: wide[v] for p, v in graph.updates.items()},
        )

    def _set(
        self,
        value: Value,
        operands: list[Value],
        rounded: set[Value],
        narrow: dict[Value, Value],
        wide: dict[Value, Value],
    ) -> None:
        same = all(a is b for a, b in zip(operands, value.operands, strict=True))
        made = value if same else Value(value.op, tuple(operands), value.type, value.span, value.label)
        wide[value] = made
        if value in rounded:
            narrow[value] = cast(made, self.dtype)
            if not isinstance(value.op, Parameter):
                wide[value] = cast(narrow[value], DType.FLOAT32)


def _rounded(graph: Graph) -> set[Value]:
    """The values that products read, and those of which pools and moves make such values."""
    found: set[Value] = set()
    for value in reversed(graph.values):
        if isinstance(value.op, _PRODUCTS) or (value in found and _moves(value)):
            found.update(value.operands)
    return found


def _moves(value: Value) -> bool:
    """Whether an op only moves elements, or takes the largest or the mean of some: it may work on rounded values."""
    floats = all(o.type.dtype is DType.FLOAT32 for o in (value, *value.operands))
    moving = value.op.fusion in (Fusion.VIEW, Fusion.INJECTIVE) or isinstance(value.op, MaxPool | MinPool | AvgPool)
    return floats and moving and bool(value.operands)


def _exact(value: Value) -> Value:
    """An output before it was rounded for others."""
    back = isinstance(value.op, Cast) and isinstance(value.operands[0].op, Cast)
    return value.operands[0].operands[0] if back else value
