"""Rows of parts as text of the language."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from dlc.compiler.importing.naming import identifier
from dlc.compiler.importing.parts import ACTIVATIONS, Call, Group, Parallel, Part, Row

WIDTH = 100
"""Longer chains are written on several lines."""

COMPRESSED = 4
"""So many equal items of a list are written as a comprehension."""

LIGHT = ACTIVATIONS | {"batch_norm", "dropout", "max_pool", "avg_pool", "local_response_norm", "affine", "softmax"}
"""Layers that stand on the line of the layer before."""


BY_PLACE = {"dropout", "elu", "leaky_relu", "local_response_norm", "subsample", "upsample"}
"""Layers whose first argument stands without its name, though it has a default."""


class Expression(str):
    """An argument that is computed: the name of a parameter, or a product with it."""


def value_text(value: object) -> str:
    """An argument as an author writes it."""
    match value:
        case Expression():
            return str(value)
        case bool():
            return str(value).lower()
        case str():
            return value
        case tuple() if value and isinstance(value[0], tuple):
            rows = textwrap.wrap(", ".join(value_text(v).replace(" ", "~") for v in value), WIDTH - 10)
            return "[\n" + "\n".join(rows).replace("~", " ") + ",\n]"
        case tuple():
            inner = ", ".join(value_text(v) for v in value)
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        case float() if value == int(value) and abs(value) < 1e6:
            return str(int(value))
    return repr(value).replace("e-0", "e-")


def call_text(call: Call, *, labelled: bool = True) -> str:
    """`c1: conv(6, 5, pad=2)`: what has no default by place, what differs from it by name."""
    by_place = {k for k in call.arguments if k not in call.defaults}
    if call.keyword in BY_PLACE and (first := next(iter(call.arguments))) in call.defaults:
        by_place |= {first} if call.arguments[first] != call.defaults[first] else set()
    required = [value_text(v) for k, v in call.arguments.items() if k in by_place]
    if call.keyword == "reshape":
        required = [f"[{', '.join(map(str, call.arguments['to']))}]"]
    named = [
        f"{key}={value_text(value)}"
        for key, value in call.arguments.items()
        if key not in by_place and (isinstance(value, Expression) or value != call.defaults[key])
    ]
    arguments = ", ".join(required + named)
    label = _label(call.label, call.keyword) if labelled else ""
    return f"{label}{call.keyword}({arguments})" if arguments else f"{label}{call.keyword}"


def row_text(row: Row) -> str:
    """A row on one line; `identity` for an empty one."""
    return " -> ".join(_items(row)) or "identity"


def row_lines(row: Row) -> list[str]:
    """A row as lines that belong together: each begins with a layer of some weight, what is light goes on with it."""
    lines: list[str] = []
    was_fork = False
    for part, text in zip(*_numbered(row), strict=True):
        is_light = isinstance(part, Call) and part.keyword in LIGHT
        if lines and is_light and (was_fork or len(lines[-1]) + len(text) < WIDTH):
            lines[-1] += f" -> {text}"
        else:
            lines.append(text)
        was_fork = isinstance(part, Parallel) or (was_fork and is_light)
    return lines


def _items(row: Row) -> list[str]:
    return _numbered(row)[1]


def _numbered(row: Row) -> tuple[list[Part], list[str]]:
    """The parts of a row with their texts, those that have numbers for labels gathered in `chain` and `repeat`."""
    parts: list[Part] = []
    found: list[str] = []
    for is_number, run in groupby(_stems(row), key=_has_number):
        members = list(run)
        if is_number:
            parts.append(members[0] if len(members) == 1 else Group(None, "", tuple(members)))
            found.append(list_text(members))
            continue
        for part in members:
            parts.append(part)
            found.append(part_text(part))
    return _repeated(parts, found)


def _repeated(parts: list[Part], found: list[str]) -> tuple[list[Part], list[str]]:
    """Equal neighbours without labels, one or several in a row, as `repeat`."""
    index = 0
    kept: list[Part] = []
    texts: list[str] = []
    while index < len(found):
        width, count = _repetition(found, index)
        if count > 1:
            kept.append(Group(None, "", tuple(parts[index : index + width])))
            texts.append(f"repeat({count}, {' -> '.join(found[index : index + width])})")
            index += width * count
        else:
            kept.append(parts[index])
            texts.append(found[index])
            index += 1
    return kept, texts


def _repetition(found: Sequence[str], start: int) -> tuple[int, int]:
    """How many items from `start` on repeat, and how often: the choice that covers most; (1, 1) for none."""
    best = (1, 1)
    for width in range(1, min(12, (len(found) - start) // 2) + 1):
        window = found[start : start + width]
        if any(":" in text.split("(")[0] for text in window):
            break
        count = 1
        while found[start + count * width : start + (count + 1) * width] == window:
            count += 1
        length = sum(map(len, window)) + 4 * width
        if count > 1 and (count - 1) * length > 30 and count * width > best[0] * best[1]:
            best = (width, count)
    return best


def part_text(part: Part) -> str:
    """One part on one line."""
    match part:
        case Call():
            return call_text(part)
        case Group():
            return _group_text(part)
        case Parallel():
            return fork_text([row_text(branch) for branch in part.branches], part.join)


def fork_text(branches: Sequence[str], join: Call) -> str:
    """`residual(a)` and `residual(a, b)` for a sum of two, else `fork(a, b) -> concat`."""
    if join.keyword == "add" and len(branches) == 2:
        inner = branches[:1] if branches[1] == "identity" else branches
        return f"residual({_listed(inner)})"
    return f"fork({_listed(branches)}) -> {call_text(join)}"


def _listed(items: Sequence[str]) -> str:
    """Arguments, on lines of their own where they are long."""
    whole = ", ".join(items)
    return whole if len(items) == 1 or (len(whole) < WIDTH - 10 and "\n" not in whole) else f"\n{_one_a_line(items)}\n"


def _one_a_line(items: Sequence[str]) -> str:
    """Items on lines of their own, a comma behind each."""
    return "\n".join(f"{item}," for item in items)


def _group_text(group: Group) -> str:
    """`layer1: chain([a, b])`, `layer1: (a -> b)`."""
    items = _items(group.body)
    whole = " -> ".join(items)
    is_one_call = len(items) == 1 and whole.startswith(("chain(", "repeat(", "residual(")) and " + " not in whole
    label = _label(group.label, "part")
    if not label:
        return whole
    return f"{label}{whole}" if is_one_call or (whole.startswith("chain(") and len(items) == 1) else f"{label}({whole})"


def list_text(parts: Sequence[Part]) -> str:
    """Parts that are numbered from 0: `repeat(3, a)`, `chain([a, b])`, `chain([a] + [b for i in 0..5])`.

    A list that is too long for a line has lines that begin with the layers of some weight.
    """
    items = [_unlabelled(part) for part in parts]
    if len(items) > 1 and len(set(items)) == 1:
        return f"repeat({len(items)}, {items[0]})"
    runs = [(item, len(list(run))) for item, run in groupby(items)]
    if all(count < COMPRESSED for _, count in runs):
        inner = ", ".join(items)
        return f"chain([{inner}])" if len(inner) < WIDTH - 20 else f"chain([\n{_list_lines(parts, items)}\n])"
    pieces: list[str] = []
    plain: list[str] = []
    for item, count in runs:
        if count < COMPRESSED:
            plain += [item] * count
            continue
        if plain:
            pieces.append(f"[{', '.join(plain)}]")
            plain = []
        pieces.append(f"[{item} for i in 0..{count}]")
    if plain:
        pieces.append(f"[{', '.join(plain)}]")
    return f"chain({' + '.join(pieces)})"


def _list_lines(parts: Sequence[Part], items: Sequence[str]) -> str:
    lines: list[str] = []
    for part, item in zip(parts, items, strict=True):
        is_light = isinstance(part, Call) and part.keyword in {*LIGHT, "identity"}
        if lines and is_light and len(lines[-1]) + len(item) < WIDTH:
            lines[-1] += f" {item},"
        else:
            lines.append(f"{item},")
    return "\n".join(lines)


def _unlabelled(part: Part) -> str:
    match part:
        case Call():
            return call_text(part, labelled=False)
        case Group():
            return row_text(part.body)
        case Parallel():
            return part_text(part)


def _label(label: str | None, prefix: str) -> str:
    first = re.match("[A-Z]?[a-z]+", prefix)
    return f"{identifier(label, first[0].lower() if first else '')}: " if label else ""


def _has_number(part: Part) -> bool:
    return isinstance(part, Call | Group) and part.label is not None and part.label.isdigit()


def _stems(row: Row) -> list[Part]:
    """`layer1: B -> layer2: B -> layer3: B -> layer4: B` → `layer: repeat(4, B)`, four or more of the same."""
    parts: list[Part] = []
    for _, run in groupby(row, key=_stem):
        members = list(run)
        stem = _stem(members[0])
        if stem is not None and len(members) >= COMPRESSED:
            numbered = tuple(_renumbered(part, i) for i, part in enumerate(members))
            parts.append(Group(stem[0], "", numbered, is_settled=True))
        else:
            parts += members
    return parts


def _stem(part: Part) -> tuple[str, str] | None:
    if not isinstance(part, Call) or part.label is None or part.label.isdigit() or not part.keyword[0].isupper():
        return None
    stem = part.label.rstrip("0123456789").rstrip("_")
    return (stem, call_text(part, labelled=False)) if stem != part.label and stem else None


def _renumbered(part: Part, number: int) -> Part:
    assert isinstance(part, Call)
    return Call(part.keyword, part.arguments, part.defaults, str(number), part.meanings)


def arguments_text(parameters: Mapping[str, Any]) -> str:
    """`(channels, stride = 1)`; nothing where a block has no parameters."""
    inner = ", ".join(name if default is None else f"{name} = {default}" for name, default in parameters.items())
    return f"({inner})" if inner else ""
