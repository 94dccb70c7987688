"""The printer: a graph as text, one value a line."""

from __future__ import annotations

from dataclasses import MISSING, fields
from enum import Enum
from typing import Any

from dlc.compiler.ir.graph import Constant, Graph, Input, Op, Parameter, Source, Value
from dlc.runtime.layout import Layout


class Printer:
    """Names the values of one graph: sources by their keys, the others by number in order."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        computed = (v for v in graph.values if not isinstance(v.op, Source))
        self._numbers = {v: i for i, v in enumerate(computed)}

    def name(self, value: Value) -> str:
        """`%3`, `%image`, `%c1.weight`; a scalar constant is its number."""
        if isinstance(value.op, Source):
            return value.op.key if isinstance(value.op, Constant) and value.type.shape == () else f"%{value.op.key}"
        return f"%{self._numbers[value]}" if value in self._numbers else f"%<{value.op.name}>"

    def line(self, value: Value) -> str:
        """`%3 = conv2d(%image, %c1.weight) {channels=6, kernel=5x5} : float32[N, 28, 28, 6]  # c1 lenet5.dlspec:7`."""
        if isinstance(value.op, Source):
            text = f"{self.name(value)} = {_source_kind(value.op)} : {value.type}"
        else:
            operands = ", ".join(map(self.name, value.operands))
            attributes = _attributes(value.op)
            text = f"{self.name(value)} = {value.op.name}({operands}){attributes} : {value.type}"
        place = f"{value.span.file.name}:{value.span.line}" if value.span else ""
        remark = " ".join(part for part in (value.label, place) if part)
        return f"{text}  # {remark}" if remark else text

    def text(self) -> str:
        """The whole graph: inputs, parameters, computed values, outputs and updates."""
        values = self.graph.values
        given = [
            v for v in values if isinstance(v.op, Source) and not (isinstance(v.op, Constant) and not v.type.shape)
        ]
        lines = [f"graph {self.graph.name} {{"]
        lines += [f"  {self.line(v)}" for v in given]
        lines += [f"  {self.line(v)}" for v in values if not isinstance(v.op, Source)]
        lines += [f"  output {name} = {self.name(v)}" for name, v in self.graph.outputs.items()]
        lines += [f"  update {self.name(p)} = {self.name(v)}" for p, v in self.graph.updates.items()]
        return "\n".join([*lines, "}"]) + "\n"


def to_text(graph: Graph) -> str:
    """A graph as readable text, for `dlc show --after build` and tests."""
    return Printer(graph).text()


def _source_kind(op: Source) -> str:
    if isinstance(op, Input):
        return "input"
    if isinstance(op, Parameter):
        trained = "parameter" if op.trainable else "parameter (not trained)"
        return trained if op.layout is None else f"{trained} packed from {list(op.layout.canonical_shape)}"
    return "constant"


def _attributes(op: Op) -> str:
    """The fields that differ from their defaults: ` {stride=2x2, padding=1x1x1x1}`."""
    shown = []
    for field in fields(op):
        value = getattr(op, field.name)
        if field.default is MISSING or value != field.default:
            shown.append(f"{field.name}={_attribute(value)}")
    return f" {{{', '.join(shown)}}}" if shown else ""


def _attribute(value: Any) -> str:
    if isinstance(value, Layout):
        return "x".join(map(str, value.packed))
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_attribute, value))})"
    return repr(value)
