"""Catalogs: the layers, losses, optimizers … a package defines, found by looking, so that adding one is adding a file."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import ClassVar, Protocol, TypeVar


class Named(Protocol):
    """What the language finds by its keyword."""

    keyword: ClassVar[str]


T = TypeVar("T", bound=Named)


@cache
def catalog(package: str, base: type[T]) -> Mapping[str, type[T]]:
    """Subclasses of `base` with a `keyword` (families share bases without one) in the modules of `package`, by it."""
    root = importlib.import_module(package)
    found: dict[str, type[T]] = {}
    for info in sorted(pkgutil.iter_modules(root.__path__), key=lambda m: m.name):
        module = importlib.import_module(f"{package}.{info.name}")
        for _, item in inspect.getmembers(module, inspect.isclass):
            if item.__module__ != module.__name__ or not issubclass(item, base) or not hasattr(item, "keyword"):
                continue
            keyword: str = item.keyword
            if keyword in found:
                raise AssertionError(f"{keyword} is defined twice: {found[keyword]} and {item}")
            found[keyword] = item
    return found
