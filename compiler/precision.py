"""Precisions: how exactly the factors of products are taken, by the words of the language and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dlc.compiler.errors import DlcError
from dlc.compiler.ir import DType, Fusion, Graph, Parameter, Value
from dlc.compiler.ops.convolution import Convolution
from dlc.compiler.ops.linear import LinearOp
from dlc.compiler.ops.rounding import Round, round_to
from dlc.runtime.deferred import np

_PRODUCTS = (Convolution, LinearOp)


@dataclass(frozen=True)
class Precision:
    """How products take their factors: the element type in memory, and how many significant bits of it count."""

    name: str
    dtype: DType
    bits: int

    @property
    def is_exact(self) -> bool:
        """Whether factors are taken as they are."""
        return self.bits == _EXACT

    @property
    def is_rounded(self) -> bool:
        """Whether factors are rounded numbers of 32 bits."""
        return self.dtype is DType.FLOAT32 and not self.is_exact


_EXACT = 24

PRECISIONS = {
    p.name: p
    for p in (
        Precision("float32", DType.FLOAT32, _EXACT),
        Precision("tf32", DType.FLOAT32, 11),
        Precision("bfloat16", DType.BFLOAT16, 8),
        Precision("float16", DType.FLOAT16, 11),
    )
}
"""The precisions by name."""

SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Other words for the same."""


def precision_named(word: str, target: str, available: Mapping[str, Sequence[str]]) -> Precision:
    """The precision of a compiled network; `available` are the names of those that kernels have, by targets' names.

    Raises DlcError (E0868) for a word that is no precision, (E0869) for one that kernels for `target` do not have.
    """
    name = SHORT.get(word, word)
    if name not in PRECISIONS:
        short = {long: f" ({word})" for word, long in SHORT.items()}
        advice = "one of " + ", ".join(f"{n}{short.get(n, '')}" for n in PRECISIONS)
        raise DlcError.of("E0868", f"there is no precision {word!r}", help=advice)
    if name not in available[target]:
        others = [other for other, names in available.items() if name in names]
        advice = "one of " + ", ".join(available[target])
        advice += f"; target {' or '.join(others)} has {name}" if others else ""
        raise DlcError.of("E0869", f"kernels for {target} have no {name}", help=advice)
    return PRECISIONS[name]


def in_precision(graph: Graph, precision: str, *, weights_ahead: bool = False) -> Graph:
    """The graph with both factors of every convolution and linear layer, and of their gradients, rounded: x·w → r(x)·r(w).

    Sums stay float32, and so does everything else: weights, optimizer state, norms and losses. With `weights_ahead`, weights
    that products alone read are left as they are: whoever gives them has rounded them (`rounded_weights`); and what a view shows is
    rounded before the view, by the kernel that computes it.
    """
    bits = PRECISIONS[precision].bits
    if bits == _EXACT:
        return graph
    memo: dict[Value, Value] = {}
    rounded: dict[Value, Value] = {}

    def round_once(operand: Value) -> Value:
        if operand not in rounded:
            if weights_ahead and operand.op.fusion is Fusion.VIEW:
                shown = tuple(map(round_once, operand.operands))
                rounded[operand] = Value(operand.op, shown, operand.type, operand.span, operand.label)
            else:
                rounded[operand] = round_to(operand, bits)
        return rounded[operand]

    ahead = {p for p in graph.parameters if weights_ahead and _is_only_multiplied(graph, p)}
    for value in graph.values:
        operands = tuple(memo[o] for o in value.operands)
        if isinstance(value.op, _PRODUCTS):
            operands = tuple(
                now if before in ahead else round_once(now)
                for before, now in zip(value.operands, operands, strict=True)
            )
        op = replace(value.op, bits=bits) if isinstance(value.op, _PRODUCTS) else value.op
        same = op is value.op and all(a is b for a, b in zip(operands, value.operands, strict=True))
        memo[value] = value if same else Value(op, operands, value.type, value.span, value.label)
    return Graph(
        graph.name,
        graph.inputs,
        {name: memo[v] for name, v in graph.outputs.items()},
        {parameter: memo[v] for parameter, v in graph.updates.items()},
    )


def rounded_weights(graph: Graph, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights by name, those that products of the graph read as they are rounded to the bits that these take."""
    found = dict(weights)
    for value in graph.values:
        op = value.op
        if not isinstance(op, _PRODUCTS) or op.bits == _EXACT:
            continue
        for operand in value.operands:
            if isinstance(operand.op, Parameter) and operand.op.key in found:
                found[operand.op.key] = Round(op.bits).reference(found[operand.op.key])
    return found


def narrowed(weight: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """A weight in the type in which kernels read it. Raises DlcError (E0877) where it holds numbers beyond that type's range."""
    from dlc.runtime.arrays import element_type  # loads numpy, which checking a spec does without

    with np.errstate(over="ignore"):
        array = weight.astype(element_type(dtype), copy=False)
    if dtype == "float16" and np.isinf(array).any() and np.isfinite(weight).all():
        most = float(np.abs(weight).max())
        advice = "precision bf16 has the range of float32"
        raise DlcError.of("E0877", f"the weight {name!r} is as large as {most:.3g}, float16 ends at 65504", help=advice)
    return array


def _is_only_multiplied(graph: Graph, parameter: Value) -> bool:
    return parameter not in graph.updates and all(isinstance(u.op, _PRODUCTS) for u in graph.users[parameter])
