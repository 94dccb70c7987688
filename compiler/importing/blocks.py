"""Blocks found again: groups that differ in numbers only become one block with parameters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dlc.compiler.importing.naming import identifier
from dlc.compiler.importing.parts import Call, Group, Parallel, Part, Row, calls, common_start
from dlc.compiler.importing.writing import Expression, row_text

WORTH = 100
"""A block is made where it saves so many characters."""

LONG, LONG_LIST = 130, 1000
"""Characters of a group that stands once, from which on it is a block for the sake of the overview; and of a list."""

INITIALS = {"channels": "c", "features": "f", "kernel": "k", "stride": "s", "pad": "p", "groups": "g"}
OPTIONAL = {"stride": 1, "groups": 1, "dilation": 1, "pad": 0}
"""Parameters that may be left out, where this is one of their values."""


@dataclass(frozen=True, eq=False)
class Block:
    """A definition: `parameters` by name with their defaults (None: there is none), and the body over them."""

    name: str
    parameters: Mapping[str, Any]
    body: Row


class BlockFinder:
    """Takes rows with groups, gives rows with calls of blocks; `blocks` collects these, each after those it calls.

    No block gets a name of `reserved`. Without `keeps_numbers`, a lone layer that is number 0 of its scope takes the scope's
    label.
    """

    def __init__(self, reserved: set[str], *, keeps_numbers: bool) -> None:
        self.blocks: list[Block] = []
        self.reserved = reserved
        self.keeps_numbers = keeps_numbers

    def resolve(self, rows: Sequence[Row]) -> list[Row]:
        """The rows without groups, but for those that are written in place: they keep their label, settled."""
        current = list(rows)
        while True:
            ready = [g for row in current for g in _groups(row) if not any(_groups(g.body))]
            if not ready:
                return self._without_small(current)
            families: dict[object, list[Group]] = {}
            for group in ready:
                families.setdefault(_signature(group.body), []).append(group)
            made = {id(g): part for family in families.values() for g, part in self._resolved(family)}
            current = [_replaced(row, made) for row in current]

    def _without_small(self, rows: list[Row]) -> list[Row]:
        """The rows, and the blocks, with those blocks written out that are not called often enough to be worth it."""
        while True:
            bodies = [*rows, *(block.body for block in self.blocks)]
            uses = Counter(call.keyword for body in bodies for call in calls(body))
            small = (b for b in self.blocks if (uses[b.name] - 1) * (len(row_text(b.body)) - 25) <= WORTH)
            found = next((b for b in small if uses[b.name] > 1 or not _is_long(b.body)), None)
            if found is None:
                return rows
            self.blocks = [
                replace(b, body=_written_out(b.body, found, self.keeps_numbers)) for b in self.blocks if b is not found
            ]
            rows = [_written_out(row, found, self.keeps_numbers) for row in rows]

    def _resolved(self, family: list[Group]) -> Iterator[tuple[Group, Row]]:
        """What stands for each group of one form: a call of the block that they share, or the group itself, settled."""
        bodies = [group.body for group in family]
        length = len(row_text(bodies[0]))
        is_worth = (len(family) - 1) * (length - 25) > WORTH if len(family) > 1 else _is_long(bodies[0])
        if not is_worth or (len(family) == 1 and family[0].label is None):
            for group in family:
                yield group, _in_place(group, self.keeps_numbers)
            return
        shared = _Shared(bodies)
        name = self._unique(_block_name(family))
        self.blocks.append(Block(name, shared.parameters, shared.body))
        for index, group in enumerate(family):
            arguments = {parameter: vector[index] for parameter, vector in shared.vectors.items()}
            defaults = {p: d for p, d in shared.parameters.items() if d is not None}
            yield group, (Call(name, arguments, defaults, group.label, shared.meanings),)

    def _unique(self, name: str) -> str:
        taken = self.reserved | {block.name for block in self.blocks}
        number, found = 1, name
        while found in taken:
            number += 1
            found = f"{name}{number}"
        return found


class _Shared:
    """What rows of one form have in common, and the numbers in which they differ, as parameters."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.parts = _padded_alike([list(calls(row)) for row in rows])
        self.expressions: dict[tuple[Any, ...], tuple[tuple[Any, ...], str]] = {}
        found: dict[tuple[Any, ...], str] = {}
        for same in zip(*self.parts, strict=True):
            for argument in same[0].arguments:
                vector = tuple(call.arguments[argument] for call in same)
                if len(set(vector)) == 1 or vector in self.expressions:
                    continue
                base, form = _related(vector, found)
                if not form:
                    base, form = vector, "{}"
                    found[vector] = same[0].meanings.get(argument, argument)
                self.expressions[vector] = base, form
        named = _named(found)
        defaults = {v: OPTIONAL[m] for v, m in found.items() if m in OPTIONAL and OPTIONAL[m] in v}
        order = sorted(named, key=lambda v: v in defaults)
        self.vectors = {named[v]: v for v in order}
        self.meanings = {named[v]: found[v] for v in order}
        self.parameters = {named[v]: defaults.get(v) for v in order}
        self.body = self._over_parameters(rows[0], iter(zip(*self.parts, strict=True)), named)

    def _over_parameters(self, row: Row, same: Iterator[tuple[Call, ...]], named: Mapping[tuple[Any, ...], str]) -> Row:
        parts: list[Part] = []
        for part in row:
            match part:
                case Call():
                    parts.append(self._call(next(same), named))
                case Parallel():
                    branches = tuple(self._over_parameters(b, same, named) for b in part.branches)
                    parts.append(Parallel(branches, self._call(next(same), named)))
                case Group():
                    parts.append(replace(part, body=self._over_parameters(part.body, same, named)))
        return tuple(parts)

    def _call(self, same: tuple[Call, ...], named: Mapping[tuple[Any, ...], str]) -> Call:
        arguments: dict[str, Any] = {}
        for argument in same[0].arguments:
            vector = tuple(call.arguments[argument] for call in same)
            if len(set(vector)) == 1:
                arguments[argument] = vector[0]
            else:
                base, form = self.expressions[vector]
                arguments[argument] = Expression(form.format(named[base]))
        labels = {call.label for call in same}
        return replace(same[0], arguments=arguments, label=labels.pop() if len(labels) == 1 else None)


def _padded_alike(parts: list[list[Call]]) -> list[list[Call]]:
    """Calls whose padding keeps the size everywhere, whatever the kernel: `pad=same`."""
    for index, same in enumerate(list(zip(*parts, strict=True))):
        pads = {call.arguments.get("pad") for call in same}
        if len(pads) > 1 and all(_keeps_size(call) for call in same):
            for row, call in zip(parts, same, strict=True):
                row[index] = replace(call, arguments={**call.arguments, "pad": "same"})
    return parts


def _keeps_size(call: Call) -> bool:
    kernel, dilation = call.arguments.get("kernel"), call.arguments.get("dilation", 1)
    if type(kernel) is not int or type(dilation) is not int or call.keyword not in ("conv", "conv_connect"):
        return False
    return kernel % 2 == 1 and call.arguments["pad"] == dilation * (kernel // 2)


def _is_long(row: Row) -> bool:
    """Whether a row that stands once is better read apart."""
    is_list = all(isinstance(p, Call | Group) and p.label is not None and p.label.isdigit() for p in row)
    return len(row_text(row)) > (LONG_LIST if is_list else LONG)


def _related(vector: tuple[Any, ...], known: Mapping[tuple[Any, ...], str]) -> tuple[tuple[Any, ...], str]:
    """The parameter that another one is a multiple or a part of everywhere, and how; no form where there is none."""
    for base in known:
        pairs = list(zip(vector, base, strict=True))
        if not all(type(a) is int and type(b) is int and a > 0 and b > 0 for a, b in pairs) or len(set(base)) < 2:
            continue
        if all(a % b == 0 for a, b in pairs) and len({a // b for a, b in pairs}) == 1:
            return base, f"{vector[0] // base[0]} * {{}}"
        if all(b % a == 0 for a, b in pairs) and len({b // a for a, b in pairs}) == 1:
            return base, f"{{}} // {base[0] // vector[0]}"
    return vector, ""


def _named(found: Mapping[tuple[Any, ...], str]) -> dict[tuple[Any, ...], str]:
    """Parameters' names: `channels` where it is the only one, `c1`, `c2`, … where there are several."""
    meanings = list(found.values())
    names: dict[tuple[Any, ...], str] = {}
    for index, (vector, meaning) in enumerate(found.items()):
        initial = INITIALS.get(meaning, meaning)
        place = meanings[: index + 1].count(meaning)
        names[vector] = meaning if meanings.count(meaning) == 1 else f"{initial}{place}"
    return names


def _written_out(row: Row, block: Block, keeps_numbers: bool) -> Row:
    """A row with the body of a block in the place of its calls."""
    parts: list[Part] = []
    for part in row:
        match part:
            case Call(keyword=keyword) if keyword == block.name:
                body = _with_arguments(block.body, part.arguments)
                parts += body if part.label is None else _in_place(Group(part.label, "", body), keeps_numbers)
            case Call():
                parts.append(part)
            case Group():
                parts.append(replace(part, body=_written_out(part.body, block, keeps_numbers)))
            case Parallel():
                parts.append(
                    replace(part, branches=tuple(_written_out(b, block, keeps_numbers) for b in part.branches))
                )
    return tuple(parts)


def _with_arguments(row: Row, values: Mapping[str, Any]) -> Row:
    """The body of a block with values, or expressions of another block's parameters, for its parameters."""

    def call(part: Call) -> Call:
        return replace(part, arguments={k: _value(v, values) for k, v in part.arguments.items()})

    parts: list[Part] = []
    for part in row:
        match part:
            case Call():
                parts.append(call(part))
            case Group():
                parts.append(replace(part, body=_with_arguments(part.body, values)))
            case Parallel():
                branches = tuple(_with_arguments(b, values) for b in part.branches)
                parts.append(Parallel(branches, call(part.join)))
    return tuple(parts)


def _value(value: Any, values: Mapping[str, Any]) -> Any:
    """An argument over other parameters: `c` → 64, `4 * c` → 256 or `4 * channels`."""
    if not isinstance(value, Expression):
        return value
    words = str(value).split()
    if len(words) == 1:
        return values[words[0]]
    name, operator, number = words if words[1] == "//" else reversed(words)
    given = values[name]
    if type(given) is int:
        return given // int(number) if operator == "//" else given * int(number)
    if operator == "//":
        return Expression(f"({given}) // {number}" if " " in given else f"{given} // {number}")
    return Expression(f"{number} * ({given})" if " " in given else f"{number} * {given}")


def _groups(row: Row) -> Iterator[Group]:
    for part in row:
        match part:
            case Group() if not part.is_settled:
                yield part
                yield from _groups(part.body)
            case Group():
                yield from _groups(part.body)
            case Parallel():
                for branch in part.branches:
                    yield from _groups(branch)


def _replaced(row: Row, made: Mapping[int, Row]) -> Row:
    parts: list[Part] = []
    for part in row:
        match part:
            case Group() if id(part) in made:
                parts += made[id(part)]
            case Group():
                parts.append(replace(part, body=_replaced(part.body, made)))
            case Parallel():
                parts.append(replace(part, branches=tuple(_replaced(b, made) for b in part.branches)))
            case Call():
                parts.append(part)
    return tuple(parts)


def _in_place(group: Group, keeps_numbers: bool) -> Row:
    """A group that becomes no block: its parts where it has no label, one label for one layer, else a scope."""
    if group.label is None:
        return group.body
    weighty = [p for p in group.body if not isinstance(p, Call) or p.label is not None or p.keyword[0].isupper()]
    first = group.body[0]
    if isinstance(first, Call) and weighty in ([], [first]) and not group.label.isdigit():
        label = first.label or ""
        has_name = label.isidentifier() or (keeps_numbers and label.isdigit())
        if not has_name and (weighty or len(group.body) == 1):
            return (replace(first, label=group.label), *group.body[1:])
    return (replace(group, is_settled=True),)


def _signature(row: Row) -> object:
    """What rows of one form have in common: layers and how they are connected, all arguments that are not numbers."""
    found: list[object] = []
    for part in row:
        match part:
            case Call():
                found.append((part.keyword, _structural(part.arguments)))
            case Parallel():
                branches = tuple(_signature(branch) for branch in part.branches)
                found.append((branches, part.join.keyword, _structural(part.join.arguments)))
            case Group():
                found.append((part.label, _signature(part.body)))
    return tuple(found)


def _structural(arguments: Mapping[str, Any]) -> tuple[object, ...]:
    """Arguments without the numbers that may become parameters."""
    return tuple((k, None if _is_number(v) else v) for k, v in arguments.items())


def _is_number(value: object) -> bool:
    if isinstance(value, tuple):
        return len(value) in (2, 4) and all(type(n) is int for n in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _block_name(family: Sequence[Group]) -> str:
    """A name: the file's own, what the labels have in common, or what the block is made of."""
    hints = {group.hint for group in family} - {""}
    if hints:
        return sorted(hints)[0]
    labels = [group.label or "" for group in family]
    stem = re.sub(r"(_?\d+[a-z]?|_)$", "", labels[0] if len(set(labels)) == 1 else common_start(labels))
    keywords = {call.keyword for call in calls(family[0].body)}
    if len(stem) > 1 and not stem.isdigit() and stem not in keywords:
        return "".join(word[:1].upper() + word[1:] for word in identifier(stem).split("_"))
    return _name_by_content(family[0].body)


def _name_by_content(body: Row) -> str:
    for part in body:
        if isinstance(part, Parallel):
            has_identity = any(not branch for branch in part.branches)
            match part.join.keyword:
                case "add":
                    return "Residual" if has_identity else "Projection"
                case "concat":
                    return "Dense" if has_identity else "Branches"
                case "multiply":
                    return "Gate" if len(body) == 1 else "Gated"
    groups = [call.arguments.get("groups", 1) for call in calls(body)]
    if any(isinstance(g, Expression) or g > 4 for g in groups):
        return "Depthwise"
    words = [
        "".join(w[:1].upper() + w[1:] for w in call.keyword.removeprefix("batch_").split("_")) for call in calls(body)
    ]
    return "".join(words) if len(words) <= 3 and len(set(words)) > 1 else "Unit"
