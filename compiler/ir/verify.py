"""The verifier: what every graph must keep, checked between passes in tests."""

from __future__ import annotations

from dlc.compiler.ir.graph import Constant, Graph, Input, Parameter, ShapeError, Source, Value
from dlc.compiler.ir.text import Printer
from dlc.compiler.ir.types import N


class VerifyError(Exception):
    """A graph that no pass may produce; the message holds the text of the value at fault."""


def verify(graph: Graph) -> None:
    """Checks a graph; raises VerifyError.

    Operands stand before users, types are what the ops infer, only the first dimension is the batch, sources have their
    declared types and names of their own, constants hold what their types say, updates keep the parameters' types.
    """
    printer = Printer(graph)
    seen: set[Value] = set()
    names: dict[str, Value] = {}
    for value in graph.values:
        text = printer.line(value)
        if any(o not in seen for o in value.operands):
            raise VerifyError(f"an operand is not defined before its use: {text}")
        seen.add(value)
        if N in value.type.shape[1:]:
            raise VerifyError(f"the batch is not the first dimension: {text}")
        if isinstance(value.op, Source):
            _verify_source(value, text, names)
            continue
        try:
            inferred = value.op.infer(*(o.type for o in value.operands))
        except ShapeError as error:
            raise VerifyError(f"{error}: {text}") from error
        if inferred != value.type:
            raise VerifyError(f"the type should be {inferred}: {text}")
    for given in graph.inputs:
        if not isinstance(given.op, Input):
            raise VerifyError(f"listed as an input, but is none: {printer.line(given)}")
    for parameter, new in graph.updates.items():
        if not isinstance(parameter.op, Parameter):
            raise VerifyError(f"only parameters can be updated: {printer.line(parameter)}")
        if new.type != parameter.type:
            raise VerifyError(
                f"the update of {parameter.op.key} ({parameter.type}) has another type: {printer.line(new)}"
            )
    missing = [v for v in graph.values if isinstance(v.op, Input) and v not in graph.inputs]
    if missing:
        raise VerifyError(f"an input that the graph does not list: {printer.line(missing[0])}")


def _verify_source(value: Value, text: str, names: dict[str, Value]) -> None:
    op = value.op
    assert isinstance(op, Source)
    if value.operands or op.type != value.type:
        raise VerifyError(f"a given value has no operands and its declared type {op.type}: {text}")
    if isinstance(op, Constant):
        if op.value.shape != value.type.shape or op.value.dtype != value.type.dtype.numpy:
            raise VerifyError(f"the constant holds {op.value.dtype}{list(op.value.shape)}: {text}")
        return
    if isinstance(op, Parameter):
        if N in value.type.shape:
            raise VerifyError(f"a parameter has no batch: {text}")
        if op.layout is not None and op.layout.packed != value.type.shape:
            raise VerifyError(f"the layout gives {list(op.layout.packed)}: {text}")
    if names.setdefault(op.key, value) is not value:
        raise VerifyError(f"two values are called {op.key}: {text}")
