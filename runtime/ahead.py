"""Looking one item ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def announced(items: Iterable[Item], announce: Callable[[Item], object]) -> Iterator[Item]:
    """The items, each of which but the first is announced before the one in front of it is given."""
    waiting: list[Item] = []
    for item in items:
        if waiting:
            announce(item)
            yield waiting.pop()
        waiting.append(item)
    yield from waiting
