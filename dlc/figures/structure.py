"""The structure of a network as its author wrote it: blocks and labelled scopes around layers that act as one.

A *unit* is what a figure draws as one box: a layer with weights, a pool or a join, and what follows it alone and keeps its
place (normalisation, activation, dropout, flattening). A *group* is a block call or a labelled scope. The calls of a group
stand next to one another in the network, so a network of groups has no cycles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dlc.compiler.network import Frame, LayerCall, Network, NetworkInput, NetworkOutput, Tensor
from dlc.figures.notation import Kind, kind


@dataclass(frozen=True, eq=False)
class Unit:
    """Layer calls in a row that a figure shows as one; `calls[0]` is what it is, `label` its author's name or ""."""

    calls: tuple[LayerCall, ...]
    label: str = ""

    @property
    def name(self) -> str:
        """The dotted name of the main call."""
        return self.calls[0].name


@dataclass(frozen=True, eq=False)
class Group:
    """A block call, or a labelled or numbered scope without a block of its own (`block` is then "")."""

    name: str
    block: str
    parts: tuple[Part, ...]

    @property
    def calls(self) -> tuple[LayerCall, ...]:
        """All calls inside, in order."""
        return tuple(call for part in self.parts for call in part.calls)

    @property
    def label(self) -> str:
        """What the author calls it: a label, or the dotted name of a numbered one; "" where it has neither."""
        return own_label(self.name, self.block) or (self.name if last(self.name).isdigit() else "")


@dataclass(frozen=True, eq=False)
class Port:
    """An input or an output of the network."""

    port: NetworkInput | NetworkOutput

    @property
    def name(self) -> str:
        """Its name in the spec."""
        return self.port.name

    @property
    def calls(self) -> tuple[LayerCall, ...]:
        """None: a port computes nothing."""
        return ()


Part = Unit | Group
Node = Unit | Group | Port


def last(name: str) -> str:
    """The last component of a dotted name."""
    return name.rpartition(".")[2]


def own_label(name: str, keyword: str) -> str:
    """The last component of a dotted name if it says more than the keyword: neither a number nor `keyword_2`."""
    own = last(name)
    start, _, number = own.rpartition("_")
    return "" if own.isdigit() or own == keyword or (number.isdigit() and start == keyword) else own


def structure(network: Network) -> tuple[Part, ...]:
    """A network's groups and units, in the order of their calls."""
    uses = Counter(id(t) for call in network.calls for t in call.inputs)
    uses.update(id(o.tensor) for o in network.outputs)
    return _parts([(call, _path(call)) for call in network.calls], uses)


Step = tuple[int | str, str, str]
"""One scope on the way to a call: what tells it from others, its dotted name, its block ("" for a scope without)."""


def _path(call: LayerCall) -> tuple[Step, ...]:
    """The scopes around a call, outermost first. Scopes without a block are found in the dotted names."""
    steps: list[Step] = []
    inside = ""
    for frame in reversed(call.chain):
        if frame.scope:  # a model's frame has none
            steps += _between(inside, frame.scope.rpartition(".")[0])
            steps.append((id(frame), frame.scope, _block(frame)))
            inside = frame.scope
    return (*steps, *_between(inside, call.name.rpartition(".")[0]))


def _block(frame: Frame) -> str:
    return frame.description.partition("(")[0]


def _between(outer: str, inner: str) -> Iterator[Step]:
    """The scopes from `outer`, excluded, to `inner`, included; none where a shared stage was named elsewhere."""
    if outer and not inner.startswith(outer + "."):
        return
    parts = inner[len(outer) + 1 if outer else 0 :].split(".") if inner else []
    for i in range(len(parts)):
        name = ".".join(([outer] if outer else []) + parts[: i + 1])
        yield (name, name, "")


def _parts(calls: Sequence[tuple[LayerCall, tuple[Step, ...]]], uses: Counter[int]) -> tuple[Part, ...]:
    """Calls with the scopes around each that are still to be opened, as parts in a row."""
    found: list[Part] = []
    start = 0
    while start < len(calls):
        call, path = calls[start]
        end = start + 1
        if path:
            names = {call.name}
            while end < len(calls) and calls[end][1] and calls[end][1][0] == path[0] and _fresh(calls[end], names):
                end += 1
            inner = _parts([(c, p[1:]) for c, p in calls[start:end]], uses)
            _append(found, _group(path[0], inner), uses)
        else:
            _append(found, Unit((call,), own_label(call.name, call.layer.keyword)), uses)
        start = end
    return tuple(found)


def _fresh(entry: tuple[LayerCall, tuple[Step, ...]], names: set[str]) -> bool:
    """Whether a call goes on with the scope before it: a scope without a block that starts again is a second use."""
    call, path = entry
    again = isinstance(path[0][0], str) and call.name in names
    names.add(call.name)
    return not again


def _group(step: Step, parts: tuple[Part, ...]) -> Part:
    """A scope around parts; around a single one it only lends its label, or its block."""
    _, name, block = step
    if len(parts) > 1:
        return Group(name, block, parts)
    (only,) = parts
    if isinstance(only, Unit):
        label = own_label(name, block)
        return Unit(only.calls, label if label and label != only.calls[0].layer.keyword else only.label)
    return Group(name if own_label(name, block) else only.name, only.block or block, only.parts)


def _append(found: list[Part], part: Part, uses: Counter[int]) -> None:
    """Adds a part to those before it, folded into the last one that it follows alone."""
    if isinstance(part, Unit) and follows(part.calls[0]):
        (source,) = part.calls[0].inputs
        for i, before in enumerate(found):
            if isinstance(before, Unit) and before.calls[-1].output is source and uses[id(source)] == 1:
                found[i] = Unit(before.calls + part.calls, before.label)
                return
    found.append(part)


def follows(call: LayerCall) -> bool:
    """Whether a figure shows a layer as a part of what comes before it."""
    return kind(call.layer) in (Kind.NORM, Kind.ACTIVATION) or call.layer.keyword == "flatten"


def entries(part: Part) -> tuple[Tensor, ...]:
    """The tensors that flow into a part from outside, in the order in which it takes them."""
    inside = {id(call.output) for call in part.calls}
    found: dict[int, Tensor] = {}
    for call in part.calls:
        for tensor in call.inputs:
            if id(tensor) not in inside:
                found.setdefault(id(tensor), tensor)
    return tuple(found.values())


def signature(part: Part) -> tuple[object, ...]:
    """Equal for parts that do the same to inputs of the same shapes, but for the values of their weights."""
    calls = part.calls
    places: dict[int, object] = {id(call.output): i for i, call in enumerate(calls)}
    for i, tensor in enumerate(entries(part)):
        places[id(tensor)] = (i, tensor.shape)
    block = part.block if isinstance(part, Group) else ""
    return (block, *((call.layer, tuple(places[id(t)] for t in call.inputs)) for call in calls))
