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

    With `shortcuts`, what an element-wise op takes from another kernel is rounded too, if a product begins that kernel: it
    waits in memory, as a shortcut that is added to a convolution.
    """

    dtype: DType
    shortcuts: bool = False

    def __call__(self, graph: Graph) -> Graph:
        """The graph with its products in 16 bits."""
        rounded = _rounded(graph)
        if self.shortcuts:
            rounded = _waiting(graph, rounded)
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


def _waiting(graph: Graph, rounded: set[Value]) -> set[Value]:
    """The values behind a product, element by element, that wait in memory for a later kernel; of two products whose sums meet,
    which one waits is the fuser's choice, and both are rounded. What only moves rounded values is among them."""
    index = {value: i for i, value in enumerate(graph.values)}
    needs: dict[Value, int] = {}  # a bit for every value that one depends on
    begins: dict[Value, Value] = {}  # what begins the kernel that can compute a value
    found = set(rounded)
    for value in graph.values:
        needs[value] = sum(1 << index[o] for o in set(value.operands))
        for operand in value.operands:
            needs[value] |= needs[operand]
        starts = {begins[o] for o in value.operands if o in begins}
        if value.op.fusion is not Fusion.ELEMENTWISE or not starts:
            if value.operands:
                begins[value] = value
            moved = _moves(value) and not isinstance(value.op, AvgPool)
            if moved and all(o in found for o in value.operands):
                found.add(value)
            continue
        begins[value] = max(starts, key=index.__getitem__)
        exact = {o: begins[o] for o in value.operands if o in begins and o not in found and _is_product(begins[o])}
        for operand, start in exact.items():
            later = any(needs[other] >> index[start] & 1 for other in starts)
            meets = any(other is not start and not needs[start] >> index[other] & 1 for other in exact.values())
            if (later or meets) and operand.type.dtype is DType.FLOAT32:
                found.add(operand)
    return found


def _is_product(value: Value) -> bool:
    return isinstance(value.op, _PRODUCTS)


def _moves(value: Value) -> bool:
    """Whether an op only moves elements, or takes the largest or the mean of some: it may work on rounded values."""
    floats = all(o.type.dtype is DType.FLOAT32 for o in (value, *value.operands))
    moving = value.op.fusion in (Fusion.VIEW, Fusion.INJECTIVE) or isinstance(value.op, MaxPool | MinPool | AvgPool)
    return floats and moving and bool(value.operands)


def _exact(value: Value) -> Value:
    """An output before it was rounded for others."""
    back = isinstance(value.op, Cast) and isinstance(value.operands[0].op, Cast)
    return value.operands[0].operands[0] if back else value
