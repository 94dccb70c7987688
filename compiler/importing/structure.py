"""A graph of layers as chains and forks: what a person writes with `->`, `fork` and `residual`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dlc.compiler.importing.model import Reading
from dlc.compiler.importing.values import Flow
from dlc.compiler.layers.arithmetic import Add, Multiply


@dataclass(frozen=True, eq=False)
class Fork:
    """The same input to several chains, and what takes their results."""

    branches: tuple[Chain, ...]
    join: Flow


Chain = tuple[Flow | Fork, ...]
"""Layers and forks in a row."""


@dataclass(frozen=True, eq=False)
class Join:
    """Lines that start at different tensors, and what takes their results."""

    lines: tuple[Line, ...]
    join: Flow


@dataclass(frozen=True, eq=False)
class Line:
    """A chain that starts at a tensor with a name, or at a join."""

    start: Flow | Join
    chain: Chain


@dataclass(frozen=True, eq=False)
class Statement:
    """A line that gives a tensor its name; and the outputs of the network that the tensor is."""

    line: Line
    result: Flow
    outputs: tuple[str, ...]


def statements(reading: Reading) -> list[Statement]:
    """All of a graph as statements, in an order in which each uses names given before.

    Tensors get names only where chains and forks cannot say what flows where, and where they are outputs.
    """
    outputs: dict[int, list[str]] = {}
    for name, flow in reading.outputs.items():
        outputs.setdefault(id(flow), []).append(name)
    named = set(outputs) | {id(f) for f in reading.inputs.values()}
    users = Counter(id(i) for flow in reading.flows for i in flow.inputs)
    parents = dominators(reading.flows).nearest
    while True:
        walk = _Walk(named, parents)
        wanted = [f for f in reading.flows if id(f) in named and (f.inputs or id(f) in outputs)]
        made = [Statement(walk.line(f), f, tuple(outputs.get(id(f), ()))) for f in wanted]
        twice = {key for key, count in walk.seen.items() if count > 1 and users[key] > 1}
        if not twice | walk.starts:
            return made
        named |= twice | walk.starts


class _Walk:
    """From tensors back to what they are made of, up to tensors that have names.

    `seen` counts how often each is made, `starts` are those that need a name because lines start at them.
    """

    def __init__(self, named: set[int], parents: dict[int, Flow | None]) -> None:
        self.named = named
        self.parents = parents
        self.seen: Counter[int] = Counter()
        self.starts: set[int] = set()

    def line(self, end: Flow) -> Line:
        """The line that gives a tensor."""
        return self._last(end, None) if end.inputs else Line(end, ())

    def _back(self, flow: Flow, until: Flow | None) -> Line:
        """The line that gives a tensor, from `until` if it lies on the way, else from what has a name."""
        return Line(flow, ()) if flow is until or id(flow) in self.named else self._last(flow, until)

    def _last(self, flow: Flow, until: Flow | None) -> Line:
        chain: list[Flow | Fork] = []
        while True:
            self.seen[id(flow)] += 1
            if len(flow.inputs) == 1:
                chain.append(flow)
                flow = flow.inputs[0]
            else:
                source = self.parents[id(flow)]
                lines = _arranged(flow, [self._back(i, source) for i in flow.inputs])
                if source is None or any(line.start is not source for line in lines):
                    starts = {id(line.start) for line in lines if isinstance(line.start, Flow)}
                    self.starts |= starts - self.named
                    return Line(Join(lines, flow), tuple(reversed(chain)))
                chain.append(Fork(tuple(line.chain for line in lines), flow))
                flow = source
            if flow is until or id(flow) in self.named:
                return Line(flow, tuple(reversed(chain)))


def _arranged(join: Flow, lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines into a join; of two that are added the longer, the body of a residual, comes first, a gate last."""
    if isinstance(join.layer, Add) and len(lines) == 2:
        return tuple(sorted(lines, key=lambda line: -len(line.chain)))
    if isinstance(join.layer, Multiply):
        return tuple(sorted(lines, key=lambda line: len(line.chain)))
    return tuple(lines)


@dataclass(frozen=True)
class Dominators:
    """For each tensor the nearest one before it through which all its ways come; None where there is no such."""

    nearest: dict[int, Flow | None]
    depth: dict[int, int]

    def meet(self, a: Flow | None, b: Flow | None) -> Flow | None:
        """The last tensor through which all ways to both come, which may be one of them."""
        while a is not b:
            if a is None or b is None:
                return None
            if self.depth[id(a)] >= self.depth[id(b)]:
                a = self.nearest[id(a)]
            else:
                b = self.nearest[id(b)]
        return a


def dominators(flows: Sequence[Flow]) -> Dominators:
    """The dominators of flows that are given each after those it needs."""
    found = Dominators({}, {})
    for flow in flows:
        near: Flow | None = flow.inputs[0] if flow.inputs else None
        for other in flow.inputs[1:]:
            near = found.meet(near, other)
        found.nearest[id(flow)] = near
        found.depth[id(flow)] = 0 if near is None else found.depth[id(near)] + 1
    return found
