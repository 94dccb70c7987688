"""The user's mistakes: diagnostics with place, fact and advice, and the exception and the warning that carry them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dlc.compiler.source import Span

COLUMNS = 120  # longer lines are cut where they are shown


@dataclass(frozen=True)
class Diagnostic:
    """One mistake.

    `code` is stable ("E0301"; docs/errors.md lists them), `message` one line that states the fact, `label` the text
    beside the underline, `notes` further facts (shapes and who made them, then the chain of block calls, innermost
    first), `help` what to do about it. A "warning" ("W0101") is legal, but hardly meant.
    """

    code: str
    message: str
    span: Span | None = None
    label: str = ""
    notes: tuple[str, ...] = ()
    help: str = ""
    severity: Literal["error", "warning"] = "error"

    def render(self) -> str:
        """The diagnostic as text: header, place, source line with the culprit underlined, notes, help."""
        lines = [f"{self.severity}[{self.code}]: {self.message}"]
        if self.span is not None:
            number, column = self.span.line, self.span.column
            text, before, width = _clipped(self.span.file.line(number), column - 1, self.span.end - self.span.start)
            gutter = " " * len(str(number))
            pointer = "".join("\t" if c == "\t" else " " for c in text[:before]) + "^" * width
            lines.append(f"{gutter}--> {self.span}")
            lines.append(f"{gutter} |")
            lines.append(f"{number} | {text}".rstrip())
            lines.append(f"{gutter} | {pointer} {self.label}".rstrip())
        else:
            gutter = ""
        lines += [f"{gutter} = {note}" for note in self.notes]
        if self.help:
            lines.append(f"{gutter} = help: {self.help}")
        return "\n".join(lines)


def _clipped(line: str, before: int, width: int) -> tuple[str, int, int]:
    """What is shown of a line: the text, how much of it stands before the underline, and how much is underlined.

    A line of more than COLUMNS characters is cut on both sides of the culprit, which stays in sight with what is near it.
    """
    width = max(1, min(width, len(line) - before))
    if len(line) <= COLUMNS:
        return line, before, width
    start = max(0, min(before - COLUMNS // 3, len(line) - COLUMNS))
    end = start + COLUMNS
    width = max(1, min(width, end - before))
    left, right = "…" * (start > 0), "…" * (end < len(line))
    return left + line[start + len(left) : end - len(right)] + right, before - start, width


class DlcError(Exception):
    """A mistake of the user's: a wrong spec, artifact, array, setting or file.

    The tool prints the diagnostics and exits with 1; a traceback is never shown for one.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n\n".join(d.render() for d in self.diagnostics))

    @classmethod
    def of(
        cls, code: str, message: str, *, span: Span | None = None, help: str = "", notes: Sequence[str] = ()
    ) -> DlcError:
        """An error of a single diagnostic."""
        return cls([Diagnostic(code, message, span, notes=tuple(notes), help=help)])


class SpecWarning(UserWarning):
    """A warning about a spec, as Python's: `warnings.simplefilter("ignore", dlc.SpecWarning)` silences all of them."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        self.diagnostic = diagnostic
        super().__init__(diagnostic.render())
