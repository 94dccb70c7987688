"""Narrow factors: what products read rounded to bfloat16's bits becomes bfloat16, for tensor cores."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dlc.compiler.ir import DType, Graph, Value
from dlc.compiler.ops.convolution import Convolution
from dlc.compiler.ops.elementwise import cast
from dlc.compiler.ops.linear import LinearOp
from dlc.compiler.ops.rounding import Round
from dlc.compiler.passes.pair_products import BITS


@dataclass(frozen=True)
class NarrowFactors:
    """round(x)·round(w) → bfloat16(x)·bfloat16(w) where 8 significant bits are left: the same numbers in half the memory.

    Sums stay float32, and so does all that is no factor. Runs after `in_precision`.
    """

    def __call__(self, graph: Graph) -> Graph:
        """The graph with factors of 16 bits."""
        memo: dict[Value, Value] = {}
        narrow: dict[Value, Value] = {}
        for value in graph.values:
            operands = tuple(memo[o] for o in value.operands)
            if isinstance(value.op, Convolution | LinearOp) and all(map(_is_rounded, operands)):
                for rounded in operands:
                    made = cast(rounded.operands[0], DType.BFLOAT16)
                    narrow.setdefault(rounded, Value(made.op, made.operands, made.type, rounded.span, rounded.label))
                operands = tuple(narrow[o] for o in operands)
            same = all(a is b for a, b in zip(operands, value.operands, strict=True))
            memo[value] = value if same else Value(value.op, operands, value.type, value.span, value.label)
        return replace(
            graph,
            outputs={name: memo[v] for name, v in graph.outputs.items()},
            updates={memo[p]: memo[v] for p, v in graph.updates.items()},
        )


def _is_rounded(value: Value) -> bool:
    return isinstance(value.op, Round) and value.op.bits == BITS
