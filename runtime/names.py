"""Suggestions for names that are nearly right."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def closest(name: str, names: Sequence[str]) -> str | None:
    """The known name that is most like the given one, if any is like it at all."""
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.6)), None)


def suggest(name: str, names: Sequence[str], limit: int = 8) -> str:
    """Advice for an unknown name: "did you mean 'logits'?", else what there is."""
    near = closest(name, names)
    if near is not None:
        return f"did you mean {near!r}?"
    shown = ", ".join(repr(n) for n in names[:limit])
    return f"there is {shown}" + (f" and {len(names) - limit} more" if len(names) > limit else "") if names else ""
