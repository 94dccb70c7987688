"""Recompute: cheap values that several kernels read are computed in each of them instead of being stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlc.compiler.ir import Fusion, Graph, Source, Value
from dlc.compiler.passes.fuse import root
from dlc.compiler.passes.rewrite import is_cheap, widens


@dataclass(frozen=True)
class Recompute:
    """f(v), g(v) with v = x · s + t cheap and x in memory anyway → f(x · s + t), g(x · s + t).

    Reading x costs what reading v does, and v is never written. Runs after differentiation, before fusing.
    """

    def __call__(self, graph: Graph) -> Graph:
        """The graph with cheap values repeated for each of their users."""
        kept = {root(v) for v in (*graph.outputs.values(), *graph.updates.values())}
        memo: dict[Value, Value] = {}
        copies: dict[Value, bool] = {}
        for value in graph.values:
            cheap = is_cheap(value) or widens(value)
            copies[value] = value not in kept and cheap and self._may(value, graph, kept, copies)
            memo[value] = self._over(value, memo, copies)
        return Graph(
            graph.name,
            tuple(memo[v] for v in graph.inputs),
            {k: memo[v] for k, v in graph.outputs.items()},
            {memo.get(p, p): memo[v] for p, v in graph.updates.items()},
        )

    def _may(self, value: Value, graph: Graph, kept: set[Value], copies: Mapping[Value, bool]) -> bool:
        """Whether only arithmetic reads the value, and its large operand is in memory for others or computed again too."""
        if any(u.op.fusion not in (Fusion.ELEMENTWISE, Fusion.REDUCTION) for u in graph.users[value]):
            return False
        if widens(value):
            return True  # half as many bytes are read
        (large,) = (o for o in value.operands if o.type.shape == value.type.shape)
        if isinstance(large.op, Source) or large in kept or copies[large]:
            return True
        return large.op.fusion is not Fusion.VIEW and any(user is not value for user in graph.users[large])

    def _over(self, value: Value, memo: Mapping[Value, Value], copies: Mapping[Value, bool]) -> Value:
        """The value over the new operands; those that are computed again are new for it alone."""
        own: dict[Value, Value] = {}

        def operand(old: Value) -> Value:
            if not copies[old]:
                return memo[old]
            if old not in own:
                own[old] = Value(old.op, tuple(map(operand, old.operands)), old.type, old.span, old.label)
            return own[old]

        operands = tuple(map(operand, value.operands))
        if all(a is b for a, b in zip(operands, value.operands, strict=True)):
            return value
        return Value(value.op, operands, value.type, value.span, value.label)
