"""A network as it will be written: calls of layers and blocks, in groups that have a label or may become a block."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from itertools import pairwise
from typing import Any

from dlc.compiler.importing.naming import Name
from dlc.compiler.importing.structure import Chain, Fork
from dlc.compiler.importing.values import Flow
from dlc.compiler.layers.activation import Activation


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a layer or a block. `defaults` holds the arguments that may be left out, with their values then."""

    keyword: str
    arguments: Mapping[str, Any]
    defaults: Mapping[str, Any]
    label: str | None = None
    meanings: Mapping[str, str] = field(default_factory=dict)
    """What a block's parameters are: c1 is one of its `channels`."""


@dataclass(frozen=True, eq=False)
class Parallel:
    """The same input to several rows of parts, and the call that takes their results."""

    branches: tuple[Row, ...]
    join: Call


@dataclass(frozen=True, eq=False)
class Group:
    """Parts that belong together: under a label or a number, or because they are a fork. `hint` names a block of them."""

    label: str | None
    hint: str
    body: Row
    is_settled: bool = False
    """Whether it is written in place."""


Part = Call | Parallel | Group
Row = tuple[Part, ...]


def call_of(flow: Flow, label: str | None) -> Call:
    """The call of a layer."""
    layer = flow.layer
    assert layer is not None
    values = {f.name: getattr(layer, f.name) for f in fields(layer)}
    defaults = {f.name: f.default for f in fields(layer) if f.default is not MISSING}
    return Call(layer.keyword, values, defaults, label)


def calls(row: Row) -> Iterator[Call]:
    """All calls of a row in the order in which they are written."""
    for part in row:
        match part:
            case Call():
                yield part
            case Parallel():
                for branch in part.branches:
                    yield from calls(branch)
                yield part.join
            case Group():
                yield from calls(part.body)


def with_own_labels(rows: Sequence[Row]) -> list[Row]:
    """Rows of one scope with labels that are unique in it: `bn`, `bn` → `bn`, `bn_2`. Numbers are given anew anyway."""
    taken: set[str] = set()

    def own(label: str | None) -> str | None:
        if label is None or label.isdigit():
            return label
        number, found = 1, label
        while found in taken:
            number += 1
            found = f"{label}_{number}"
        taken.add(found)
        return found

    def renamed(row: Row) -> Row:
        parts: list[Part] = []
        for part in row:
            match part:
                case Call():
                    parts.append(replace(part, label=own(part.label)))
                case Group(label=None):
                    parts.append(replace(part, body=renamed(part.body)))
                case Group():
                    (body,) = with_own_labels([part.body])
                    parts.append(replace(part, label=own(part.label), body=body))
                case Parallel():
                    branches = tuple(renamed(branch) for branch in part.branches)
                    parts.append(Parallel(branches, replace(part.join, label=own(part.join.label))))
        return tuple(parts)

    return [renamed(row) for row in rows]


def flows(chain: Chain) -> Iterator[Flow]:
    """All layers of a chain in the order in which they are written."""
    for item in chain:
        if isinstance(item, Fork):
            for branch in item.branches:
                yield from flows(branch)
            yield item.join
        else:
            yield item


class Grouping:
    """Chains as rows of parts, grouped by the names of their layers and by their forks.

    With `fills`, a layer that is missing in a numbered row, as dropout is in files for inference, is `identity`: the others
    keep their numbers.
    """

    def __init__(self, names: Mapping[int, Name], *, fills: bool) -> None:
        self.names = dict(names)
        self.fills = fills

    def row(self, chain: Chain) -> Row:
        """The parts of a chain of the network."""
        self._split_flat_names(chain)
        return self._grouped(chain, 0)

    def _grouped(self, chain: Chain, depth: int) -> Row:
        keys = self._keys(chain, depth)
        parts: list[Part] = []
        start = 0
        while start < len(chain):
            stop = start + 1
            while keys[start] is not None and stop < len(chain) and keys[stop] == keys[start]:
                stop += 1
            key = keys[start]
            if key is not None:
                parts.append(self._group(key, self._grouped(chain[start:stop], depth + 1)))
            else:
                parts.append(self._part(chain[start], depth))
            start = stop
        return _units(_filled(parts) if self.fills else tuple(parts))

    def _group(self, key: str, body: Row) -> Group:
        automatic = re.fullmatch(r"([A-Z]\w*)_\d+", key)
        return Group(None, automatic[1], body) if automatic else Group(key, "", body)

    def _part(self, item: Flow | Fork, depth: int) -> Part:
        if isinstance(item, Fork):
            branches = tuple(self._grouped(branch, depth) for branch in item.branches)
            return Parallel(branches, call_of(item.join, None))
        name = self.names[id(item)]
        return call_of(item, name.label if len(name.scope) <= depth else None)

    def _keys(self, chain: Chain, depth: int) -> list[str | None]:
        """For each item the scope at a depth that it belongs to. A layer without name goes with its neighbours."""
        found = [self._key(item, depth) for item in chain]
        keys: list[str | None] = []
        for index, (item, (known, key)) in enumerate(zip(chain, found, strict=True)):
            if known:
                keys.append(key)
                continue
            before = keys[-1] if keys else None
            behind = next((k for is_known, k in found[index:] if is_known), None)
            near = before is not None and (before == behind or _follows(item))
            keys.append(before if near else None)
        return keys

    def _key(self, item: Flow | Fork, depth: int) -> tuple[bool, str | None]:
        members = list(flows((item,)))
        known = [self.names[id(f)] for f in members if self.names[id(f)].known]
        scopes = {name.scope[depth] if len(name.scope) > depth else None for name in known}
        return bool(known), scopes.pop() if len(scopes) == 1 else None

    def _split_flat_names(self, chain: Chain) -> None:
        """Labels in a fork that begin alike: `res2_0_branch1`, `res2_0_branch2a` → `res2.0` with `branch1`, `branch2a`."""
        everywhere = [n.label for f in flows(chain) if (n := self.names[id(f)]).label and not n.scope]
        for fork in _outer_forks(chain):
            inside = [f for f in flows((fork,)) if self.names[id(f)].label]
            labels = [self.names[id(f)].label or "" for f in inside]
            if len(set(labels)) < 2 or any(self.names[id(f)].scope for f in inside):
                continue
            prefix = common_start(labels).rpartition("_")[0]
            alike = sum(label.startswith(f"{prefix}_") for label in everywhere if label)
            if not prefix or alike != len(labels):
                continue
            stem, _, number = prefix.rpartition("_")
            scope = (stem, number) if stem and number.isdigit() else (prefix,)
            for flow, label in zip(inside, labels, strict=True):
                self.names[id(flow)] = Name(scope, label[len(prefix) + 1 :], True)


def common_start(texts: Sequence[str]) -> str:
    """What texts begin with alike."""
    differs = (i for i, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1)
    return texts[0][: next(differs, min(map(len, texts)))]


def _outer_forks(chain: Chain) -> Iterator[Fork]:
    return (item for item in chain if isinstance(item, Fork))


def _follows(item: Flow | Fork) -> bool:
    """Whether a layer belongs to what stands before it."""
    return isinstance(item, Flow) and isinstance(item.layer, Activation)


def _filled(parts: Sequence[Part]) -> Row:
    """Numbered parts, with `identity` where one or two numbers are left out; counting from 1 is no gap."""
    numbers = [int(p.label) for p in parts if isinstance(p, Call | Group) and p.label is not None and p.label.isdigit()]
    if len(numbers) < max(2, len(parts)) or any(a >= b for a, b in pairwise(numbers)):
        return tuple(parts)
    if not 0 < numbers[-1] + 1 - len(numbers) <= 2 or numbers[-1] - numbers[0] + 1 == len(numbers):
        return tuple(parts)
    by_number = dict(zip(numbers, parts, strict=True))
    return tuple(by_number.get(i, Call("identity", {}, {}, str(i))) for i in range(numbers[-1] + 1))


def _units(row: Row) -> Row:
    """Several forks that are in no group, each with the activation behind it, as groups: what a network repeats."""
    if sum(isinstance(part, Parallel) for part in row) < 2:
        return row
    parts: list[Part] = []
    index = 0
    while index < len(row):
        part = row[index]
        index += 1
        if isinstance(part, Parallel) and sum(1 for _ in calls((part,))) > 2:
            unit: list[Part] = [part]
            while index < len(row) and _is_activation(row[index]):
                unit.append(row[index])
                index += 1
            parts.append(Group(None, "", tuple(unit)))
        else:
            parts.append(part)
    return tuple(parts)


def _is_activation(part: Part) -> bool:
    return isinstance(part, Call) and part.label is None and part.keyword in ACTIVATIONS


ACTIVATIONS = {cls.keyword for cls in Activation.__subclasses__()}
"""The keywords of layers of single elements."""
