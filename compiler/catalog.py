"""Catalogs: the layers, losses, optimizers … a package defines, found by looking, so that adding one is adding a file."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from typing import ClassVar, Protocol, TypeVar


class Named(Protocol):
    """What the language finds by its keyword."""

    keyword: ClassVar[str]


T = TypeVar("T", bound=Named)


class Catalog(Mapping[str, type[T]]):
    """What a package defines, by keyword; its modules are imported at the first look: a spec without recipes needs few."""

    def __init__(self, package: str, base: type[T]) -> None:
        self._package, self._base = package, base

    @cached_property
    def _found(self) -> dict[str, type[T]]:
        root = importlib.import_module(self._package)
        found: dict[str, type[T]] = {}
        for info in sorted(pkgutil.iter_modules(root.__path__), key=lambda m: m.name):
            module = importlib.import_module(f"{self._package}.{info.name}")
            for _, item in inspect.getmembers(module, inspect.isclass):
                own = item.__module__ == module.__name__ and issubclass(item, self._base)
                if not own or not hasattr(item, "keyword"):
                    continue
                keyword: str = item.keyword
                if keyword in found:
                    raise AssertionError(f"{keyword} is defined twice: {found[keyword]} and {item}")
                found[keyword] = item  # type: ignore[assignment]  # a subclass of the base, as was just asked
        return found

    def __getitem__(self, keyword: str) -> type[T]:
        return self._found[keyword]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


@cache
def catalog(package: str, base: type[T]) -> Mapping[str, type[T]]:
    """Subclasses of `base` with a `keyword` (families share bases without one) in the modules of `package`, by it."""
    return Catalog(package, base)
