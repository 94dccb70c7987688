"""The chain of block calls on the way to a place: what messages show as "in Basic(…), from Stage at line 16"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlc.compiler.frontend.values import show
from dlc.compiler.source import Span

SHOWN = 6  # calls of a long chain that a message shows before it leaves some out


@dataclass(frozen=True, eq=False)
class ActiveCall:
    """A block or a model whose body is being evaluated, and the place it was called from (None: the model itself)."""

    name: str
    arguments: Mapping[str, Any]
    span: Span | None

    @property
    def description(self) -> str:
        """ "Basic(channels=128, stride=2)"."""
        if not self.arguments:
            return self.name
        return f"{self.name}({', '.join(f'{k}={show(v)}' for k, v in self.arguments.items())})"


def chain_note(calls: Sequence[ActiveCall], place: Span | None) -> tuple[str, ...]:
    """The note that says how evaluation got to `place`; none where it stands in the model itself."""
    if len(calls) < 2:
        return ()
    parts = [f"in {calls[-1].description}"]
    for inner, outer in zip(reversed(calls), reversed(calls[:-1]), strict=False):
        parts.append(f"from {outer.name} at {where(inner.span, place)}" if inner.span else f"from {outer.name}")
    if len(parts) > SHOWN + 2:
        parts[SHOWN:-1] = [f"… {len(parts) - SHOWN - 1} more"]
    return (", ".join(parts),)


def where(span: Span, place: Span | None) -> str:
    """ "line 12", or "blocks.dlspec:12" for another file than the message's."""
    if place is not None and span.file is place.file:
        return f"line {span.line}"
    return f"{span.file.name}:{span.line}"
