"""Rewriting: rules over single values, applied from operands to users until none applies."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from dlc.compiler.ir import Constant, DType, Graph, Parameter, Source, Value
from dlc.compiler.ir.graph import rebuild
from dlc.compiler.ops.elementwise import Add, Cast, Comparison, Maximum, Minimum, Multiply, Negative, Subtract
from dlc.compiler.ops.functions import Relu

_CHEAP = (Add, Subtract, Multiply, Negative, Maximum, Minimum, Relu, Comparison)

Rule = Callable[[Value], Value | None]
"""A better value for the same thing, or None. The value's operands are rewritten already."""

_MOST_ROUNDS = 100


def rewrite(graph: Graph, *rules: Rule) -> Graph:
    """The graph with every value put through the rules; equal ops on equal operands become one value.

    What is cheap to compute again stays apart: in one kernel here and another there it costs less than memory between.
    """
    return _Rewriting(graph, rules).run()


class _Rewriting:
    def __init__(self, graph: Graph, rules: tuple[Rule, ...]) -> None:
        self.graph = graph
        self.rules = rules
        self.done: dict[Value, Value] = {}  # the graph's values and the rules' new ones -> what they became
        self.known: dict[Hashable, Value] = {}

    def run(self) -> Graph:
        graph = self.graph
        for value in graph.values:
            self.settle(value)
        inputs = tuple(self.done[v] for v in graph.inputs)
        outputs = {k: self.done[v] for k, v in graph.outputs.items()}
        updates = {self.done.get(p, p): self.done[v] for p, v in graph.updates.items()}
        return Graph(graph.name, inputs, outputs, updates)

    def settle(self, value: Value) -> Value:
        """What becomes of a value, and of those among its operands that a rule has just made."""
        stack = [value]
        while stack:
            top = stack[-1]
            if top in self.done:
                stack.pop()
            elif waiting := [o for o in top.operands if o not in self.done]:
                stack.extend(waiting)
            else:
                self.done[top] = self._apply(top)
                stack.pop()
        return self.done[value]

    def _apply(self, value: Value) -> Value:
        current = rebuild(value, self.done, {})
        for _ in range(_MOST_ROUNDS):
            better = next((b for rule in self.rules if (b := rule(current)) is not None), None)
            if better is None:
                return self._unify(current)
            if better in self.done:
                return self.done[better]
            if any(o not in self.done for o in better.operands):
                for operand in better.operands:
                    self.settle(operand)
                better = rebuild(better, self.done, {})
            current = better
        raise AssertionError(f"the rules go round in a circle at {current}")

    def _unify(self, value: Value) -> Value:
        self.done.setdefault(value, value)
        if isinstance(value.op, Source) or is_cheap(value):
            return value
        return self.known.setdefault((value.op, value.operands), value)


def narrows(value: Value) -> bool:
    """Whether a value is a float32 one in 16 bits."""
    return isinstance(value.op, Cast) and value.type.dtype.is_reduced and value.operands[0].type.dtype is DType.FLOAT32


def widens(value: Value) -> bool:
    """Whether a value is one of 16 bits as float32."""
    return isinstance(value.op, Cast) and value.type.dtype is DType.FLOAT32 and value.operands[0].type.dtype.is_reduced


def is_cheap(value: Value) -> bool:
    """Whether computing the value again costs no more than reading it: a little arithmetic on one large operand.

    Large is what has two axes or more; vectors and scalars beside it do not count.
    """
    if not isinstance(value.op, _CHEAP) or value.type.rank < 2:
        return False
    return sum(o.type.shape == value.type.shape for o in value.operands) == 1


def like(value: Value, op: Callable[..., Value], *operands: object) -> Value:
    """`op(*operands)` with the place and label of the value that it stands for."""
    made = op(*operands)
    if isinstance(made.op, Source) or made.label:
        return made
    return Value(made.op, made.operands, made.type, value.span, value.label)


def constant_number(value: Value) -> float | None:
    """The number that every element of a constant is, None for anything else."""
    if not isinstance(value.op, Constant) or value.op.value.size == 0:
        return None
    first = value.op.value.reshape(-1)[0]
    return float(first) if (value.op.value == first).all() else None


def only_weights(graph: Graph) -> Mapping[Value, bool]:
    """For each value, whether it depends on nothing but parameters that the graph does not update, and constants."""
    result: dict[Value, bool] = {}
    for value in graph.values:
        if isinstance(value.op, Source):
            result[value] = is_weight(value) and value not in graph.updates
        else:
            result[value] = all(result[o] for o in value.operands)
    return result


def is_weight(value: Value) -> bool:
    """A parameter or a constant."""
    return isinstance(value.op, Parameter | Constant)
