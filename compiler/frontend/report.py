"""Collects the mistakes of a run: each once, in the order of the file, none that follows from another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dlc.compiler.errors import Diagnostic, DlcError
from dlc.compiler.frontend.calls import ActiveCall, chain_note
from dlc.compiler.frontend.limits import DEFAULT, Limits
from dlc.compiler.source import Span


class Stop(Exception):
    """Evaluation of one model or recipe cannot go on (a limit is passed, and reported)."""


@dataclass
class Report:
    """The diagnostics so far. A second one of the same code at the same place is dropped: a block that is called
    many times reports its mistake once, with the chain of the first call, which is added to its notes."""

    limits: Limits = DEFAULT
    found: dict[tuple[object, ...], Diagnostic] = field(default_factory=dict)
    count: int = 0  # mistakes met so far, those that were dropped included
    calls: list[ActiveCall] = field(default_factory=list)  # the blocks that are being evaluated, outermost first
    origin: tuple[str, ...] = ()  # texts in the order they were read: diagnostics come out by file, then by place

    def error(
        self, code: str, message: str, span: Span | None, label: str = "", *, notes: Sequence[str] = (), help: str = ""
    ) -> None:
        """Adds a mistake, with the chain of block calls that leads to it, unless this place has it already."""
        self.count += 1
        key = (code, span.file.name, span.start, span.end) if span is not None else (code, message)
        if key not in self.found and len(self.found) < self.limits.errors:
            self.found[key] = Diagnostic(code, message, span, label, (*notes, *chain_note(self.calls, span)), help)

    def add(self, diagnostics: Sequence[Diagnostic]) -> None:
        """Adds what another part has found."""
        for d in diagnostics:
            self.error(d.code, d.message, d.span, d.label, notes=d.notes, help=d.help)

    def has(self, span: Span, code: str) -> bool:
        """Whether this mistake has been reported at this place."""
        return (code, span.file.name, span.start, span.end) in self.found

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """All of them, sorted by file (in the order of `origin`) and place; those without a place last."""
        return sorted(self.found.values(), key=self._order)

    def raise_errors(self) -> None:
        """Raises DlcError with everything found, if anything was."""
        if self.found:
            raise DlcError(self.diagnostics)

    def _order(self, d: Diagnostic) -> tuple[int, int, str]:
        if d.span is None:
            return (len(self.origin) + 1, 0, d.code)
        name = d.span.file.name
        rank = self.origin.index(name) if name in self.origin else len(self.origin)
        return (rank, d.span.start, d.code)
