"""An ONNX graph as layers: each node read by its family, what no layer says reported whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from dlc.compiler.errors import Diagnostic, DlcError
from dlc.compiler.importing import activation, arithmetic, constants, contraction, normalization, pooling, shape
from dlc.compiler.importing.values import CHANNELS_LAST, Flow, Item, Known, Reader, Refusal, Site

OPERATORS: dict[str, Reader] = {
    **contraction.OPERATORS,
    **activation.OPERATORS,
    **normalization.OPERATORS,
    **pooling.OPERATORS,
    **shape.OPERATORS,
    **arithmetic.OPERATORS,
}
POINTWISE = {*activation.OPERATORS, "Cast", "Identity"} - {"PRelu", "Softmax", "LogSoftmax"}
"""Operators that do not mind in which order the axes are."""

SHOWN = 3
"""So many nodes are named for one operator that is not known."""


@dataclass(frozen=True)
class Reading:
    """What a graph says: inputs and outputs by name, all layers between them, each after those it needs."""

    inputs: dict[str, Flow]
    outputs: dict[str, Flow]
    flows: tuple[Flow, ...]


def read_graph(model: onnx.ModelProto) -> Reading:
    """The graph of a model as layers.

    Raises DlcError with all operators that are not known (E0872), all nodes that do what the language cannot say (E0873),
    and inputs without a fixed shape (E0874).
    """
    return _Reader(model).reading()


class _Reader:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.versions = {o.domain: o.version for o in model.opset_import}
        self.opset = self.versions.get("", self.versions.get("ai.onnx", 1))
        self.uses = Counter(name for node in self.graph.node for name in node.input)
        self.uses.update(o.name for o in self.graph.output)
        self.users: Counter[int] = Counter()
        self.items: dict[str, Item | None] = {t.name: _array(t) for t in self.graph.initializer}  # None: unreadable
        self.inputs: dict[str, Flow] = {}
        self.batch = (2, 3)
        self.diagnostics: list[Diagnostic] = []
        self.unknown: dict[tuple[str, str], list[onnx.NodeProto]] = {}

    def reading(self) -> Reading:
        self._read_inputs()
        for node in self.graph.node:
            self._read(node)
        self._report_unknown()
        outputs = {o.name: self.items.get(o.name) for o in self.graph.output}
        found = {name: item for name, item in outputs.items() if isinstance(item, Flow)}
        if not self.diagnostics:
            for name in outputs.keys() - found.keys():
                self._complain("E0873", f"the output `{name}` does not depend on any input")
        flows = tuple(_in_order(found.values()))
        for flow in flows:
            if flow.layer is None and flow.inputs and not self.diagnostics:
                fact = f"{flow.op} is known only where it makes a layer together with its neighbours"
                self._complain("E0873", f"{_title(flow.node)}: {fact}")
        if self.diagnostics:
            raise DlcError(self.diagnostics)
        used = {id(f) for f in flows}
        return Reading({n: f for n, f in self.inputs.items() if id(f) in used}, found, flows)

    def _read_inputs(self) -> None:
        for value in self.graph.input:
            if value.name in self.items:
                continue
            sizes = [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]
            if not self.uses[value.name]:
                continue
            if len(sizes) not in (2, 4) or any(n is None for n in sizes[1:]):
                shown = ", ".join(d.dim_param or str(d.dim_value or "?") for d in value.type.tensor_type.shape.dim)
                self._complain(
                    "E0874",
                    f"the input `{value.name}` is [{shown}]; it must be [batch, features] or [batch, channels, height, width], "
                    "all but the batch fixed",
                    help="fix the sizes where the file is written, or with onnx.tools.update_model_dims",
                )
                self.items[value.name] = None
                continue
            if sizes[0]:
                self.batch = sizes[0], sizes[0]
            source = onnx.NodeProto(output=[value.name])
            self.inputs[value.name] = Flow("Input", (), tuple(n for n in sizes[1:] if n is not None), source)
            self._bind(value.name, self.inputs[value.name])

    def _read(self, node: onnx.NodeProto) -> None:
        inputs = tuple(self.items.get(name) if name else None for name in node.input)
        site = Site(node, inputs, self.opset, self.batch, self.users)
        try:
            missing = [n for n in node.input if n and self.items.get(n) is None]
            if node.domain in ("", "ai.onnx") and not missing and constants.is_known(inputs):
                made: Item | tuple[Item, ...] = constants.folded(site, self.versions)
            elif node.domain not in ("", "ai.onnx") or (node.op_type not in OPERATORS and node.op_type != "Shape"):
                self.unknown.setdefault((node.domain, node.op_type), []).append(node)
                return
            elif missing:
                return
            elif node.op_type == "Shape":
                made = constants.shape_of(site, site.x)
            else:
                made = _pointwise(site) or OPERATORS[node.op_type](site)
        except Refusal as refusal:
            self._complain("E0873", f"{_title(node)} is not what the language says: {refusal}")
            return
        for name, item in zip(node.output, made if isinstance(made, tuple) else (made,), strict=False):
            self._bind(name, item)

    def _bind(self, name: str, item: Item) -> None:
        self.items[name] = item
        self.users[id(item)] += self.uses[name]

    def _complain(self, code: str, message: str, help: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, help=help))

    def _report_unknown(self) -> None:
        for (domain, op), nodes in self.unknown.items():
            title = f"{op} of {domain}" if domain else op
            places = [_title(node) for node in nodes[:SHOWN]]
            more = [f"and {len(nodes) - SHOWN} more"] if len(nodes) > SHOWN else []
            notes = tuple(f"used by {place}" for place in places) + tuple(more)
            self.diagnostics.append(
                Diagnostic(
                    "E0872",
                    f"the operator {title} is not known",
                    notes=notes,
                    help="docs/import.md lists those that are",
                )
            )


def _pointwise(site: Site) -> Flow | None:
    """An operator of single elements on an image that is seen channels last; None for all others."""
    if site.node.op_type not in POINTWISE and site.node.op_type not in arithmetic.OPERATORS:
        return None
    if not any(isinstance(i, Flow) and i.op == CHANNELS_LAST for i in site.inputs):
        return None
    inputs: list[Item | None] = []
    for item in site.inputs:
        if isinstance(item, Flow):
            site.insist(item.op == CHANNELS_LAST, "one of its inputs has the channels last, another has not")
            inputs.append(item.inputs[0])
        elif item is not None and item.array.ndim == 1 and item.array.size > 1:
            inputs.append(item.like(item.array.reshape(-1, 1, 1)))
        else:
            inputs.append(item)
    made = OPERATORS[site.node.op_type](Site(site.node, tuple(inputs), site.opset, site.batch, site.uses))
    y = made[0] if isinstance(made, tuple) else made
    assert isinstance(y, Flow)
    return site.part(CHANNELS_LAST, (*y.shape[1:], y.shape[0]), y)


def _array(tensor: onnx.TensorProto) -> Known:
    array = numpy_helper.to_array(tensor)
    if array.dtype in (np.float64, np.float16):
        array = array.astype(np.float32)
    return Known(array, label=tensor.name)


def _title(node: onnx.NodeProto) -> str:
    """A node for a message: its name if it has one, its operator and what it computes."""
    name = f"`{node.name}` " if node.name else ""
    outputs = ", ".join(f"`{o}`" for o in node.output if o)
    return f"node {name}({node.op_type}, output {outputs})"


def _in_order(roots: Iterable[Flow]) -> Iterator[Flow]:
    """All that some tensors need, each after what it needs; inputs first in their order of use."""
    done: set[int] = set()
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        flow, ready = stack.pop()
        if ready:
            yield flow
        elif id(flow) not in done:
            done.add(id(flow))
            stack.append((flow, True))
            stack.extend((i, False) for i in reversed(flow.inputs))
