"""The syntax tree as text, for people and for tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from dlc.compiler.frontend.ast import Name, Node, String


def dump(node: Node) -> str:
    """The tree as indented text, one node a line; names and other leaves beside their parent's field."""
    return "\n".join(_lines(node)) + "\n"


def _lines(node: Node) -> Iterator[str]:
    scalars, below = [type(node).__name__], []
    for item in fields(node):
        value = getattr(node, item.name)
        if item.name == "span" or value is None or value == () or value == "":
            continue
        if isinstance(value, Name) and item.name in ("name", "label", "subject", "alias", "pattern", "base"):
            scalars.append(f"{item.name}={value.name}")
        elif isinstance(value, (Node, tuple)):
            below.append((item.name, value))
        else:
            scalars.append(f"{item.name}={value!r}" if isinstance(node, String) else f"{item.name}={value}")
    yield " ".join(scalars)
    for name, value in below:
        if isinstance(value, tuple):
            yield f"  {name}:"
            for child in value:
                yield from (f"    {line}" for line in _lines(child))
        else:
            first, *rest = _lines(value)
            yield f"  {name}: {first}"
            yield from (f"  {line}" for line in rest)
