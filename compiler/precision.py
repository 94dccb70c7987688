"""Precisions: how exactly the factors of products are taken, by the words of the language and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dlc.compiler.errors import DlcError
from dlc.compiler.ir import DType, Graph, Value
from dlc.compiler.ops.convolution import Convolution
from dlc.compiler.ops.linear import LinearOp
from dlc.compiler.ops.rounding import round_to

SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Other words for the same."""


def factor_type(word: str, target: str, available: Sequence[str]) -> DType:
    """The element type of the products' factors in a compiled network; `available` are those that a target's kernels have.

    Raises DlcError (E0868) for a word that is no precision, (E0869) for one that the target does not have.
    """
    name = SHORT.get(word, word)
    if name not in ("float32", "bfloat16", "float16"):
        advice = "one of float32 (fp32), bfloat16 (bf16), float16 (fp16)"
        raise DlcError.of("E0868", f"there is no precision {word!r}", help=advice)
    if name not in available:
        raise DlcError.of("E0869", f"kernels for {target} have no {name}", help="one of " + ", ".join(available))
    return DType(name)


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
