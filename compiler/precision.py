"""The precision of a training step: how exactly the factors of its products are taken."""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.ir import Graph, Value
from dlc.compiler.ops.convolution import Convolution
from dlc.compiler.ops.linear import LinearOp
from dlc.compiler.ops.rounding import round_to

BITS = {"float32": 24, "tf32": 11, "bfloat16": 8}
"""Significant bits of a factor, by the words of the language."""


def in_precision(graph: Graph, precision: str) -> Graph:
    """The graph with both factors of every convolution and linear layer, and of their gradients, rounded: x·w → r(x)·r(w).

    Sums stay float32, and so does everything else: weights, optimizer state, norms and losses.
    """
    bits = BITS[precision]
    if bits == BITS["float32"]:
        return graph
    memo: dict[Value, Value] = {}
    rounded: dict[Value, Value] = {}
    for value in graph.values:
        operands = tuple(memo[o] for o in value.operands)
        if isinstance(value.op, (Convolution, LinearOp)):
            for operand in operands:
                if operand not in rounded:
                    rounded[operand] = round_to(operand, bits)
            operands = tuple(rounded[o] for o in operands)
        op = replace(value.op, bits=bits) if isinstance(value.op, (Convolution, LinearOp)) else value.op
        same = op is value.op and all(a is b for a, b in zip(operands, value.operands, strict=True))
        memo[value] = value if same else Value(op, operands, value.type, value.span, value.label)
    return Graph(
        graph.name,
        graph.inputs,
        {name: memo[v] for name, v in graph.outputs.items()},
        {parameter: memo[v] for parameter, v in graph.updates.items()},
    )
