"""What a call accepts: parameters by name, type and default, read from the fields of a dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

MISSING = object()


@dataclass(frozen=True)
class FormalParameter:
    """One parameter. `annotation` is a resolved type, None where any value will do; `default` is MISSING if required."""

    name: str
    annotation: Any = None
    default: Any = MISSING
    field: str = ""  # the attribute, where it differs from the name (`except_`)

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is MISSING


@dataclass(frozen=True)
class Signature:
    """The parameters of `name`, in the order that positional arguments follow; `kind` is "layer", "block" …"""

    name: str
    kind: str
    parameters: tuple[FormalParameter, ...]

    def find(self, name: str) -> FormalParameter | None:
        """The parameter of a name."""
        return next((p for p in self.parameters if p.name == name), None)

    @property
    def names(self) -> Sequence[str]:
        """The parameters' names, in order."""
        return [p.name for p in self.parameters]


def signature_of(item: type[Any], kind: str = "layer") -> Signature:
    """The signature of a dataclass from a catalog. A trailing underscore keeps Python's keywords out of the way."""
    key: Any = item  # mypy takes type[Any] for something that cannot be hashed
    return _read(key, kind)


@cache
def _read(item: Any, kind: str) -> Signature:
    hints = get_type_hints(item)
    parameters = []
    for field in dataclasses.fields(item):
        if not field.init:
            continue
        default: Any = MISSING
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        parameters.append(FormalParameter(field.name.rstrip("_"), hints[field.name], default, field.name))
    keyword: str = getattr(item, "keyword", item.__name__)
    return Signature(keyword, kind, tuple(parameters))
