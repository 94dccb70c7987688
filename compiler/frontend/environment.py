"""Lexical scopes of an evaluation: names and the compile-time values they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NOT_FOUND = object()


class Environment:
    """Names of one scope, and the scope around it. `get` answers NOT_FOUND for an unknown name."""

    __slots__ = ("names", "parent")

    def __init__(self, parent: Environment | None = None, names: dict[str, Any] | None = None) -> None:
        self.parent = parent
        self.names: dict[str, Any] = names if names is not None else {}

    def get(self, name: str) -> Any:
        """The value of a name, NOT_FOUND where it has none."""
        scope: Environment | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return NOT_FOUND

    def visible(self) -> Iterator[str]:
        """Every name that can be used here, innermost first."""
        scope: Environment | None = self
        while scope is not None:
            yield from scope.names
            scope = scope.parent
