"""A place in a file where the grammar cannot go on, and what surrounds it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dlc.compiler.errors import Diagnostic
from dlc.compiler.frontend.word import Word
from dlc.compiler.source import Span

CLOSERS = {"RPAR": "LPAR", "RSQB": "LSQB"}
KINDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a string",
    "NEWLINE": "the end of the line",
    "$END": "the end of the file",
    "ARROW": "`->`",
    "GIVES": "`=>`",
    "RANGE": "`..`",
    "EQUAL": "`=`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "DOT": "`.`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "STAR": "`*`",
    "POWER": "`**`",
    "UNIT": "a unit",
}
"""How messages call a terminal; others by their word."""


@dataclass(frozen=True)
class Place:
    """Where the grammar stopped: at `tokens[index]`, in the file's item that starts at `item`, inside so many braces.

    `accepts` are the terminals that would have been right.
    """

    tokens: list[Word]
    index: int
    item: int
    braces: int
    accepts: set[str]

    @property
    def found(self) -> Word:
        """The token that was not right."""
        return self.tokens[self.index]

    @property
    def before(self) -> Word | None:
        """The token before, if it belongs to the same statement."""
        return self.tokens[self.index - 1] if self.index > self.start else None

    @cached_property
    def start(self) -> int:
        """The index of the statement's first token."""
        start = self.index
        while start and self.tokens[start - 1].type not in ("NEWLINE", "LBRACE", "RBRACE"):
            start -= 1
        return start

    @property
    def first(self) -> Word:
        """The statement's first token."""
        return self.tokens[self.start]

    @cached_property
    def bracket(self) -> Word | None:
        """The innermost bracket that is open."""
        stack = []
        for token in self.tokens[self.start : self.index]:
            if token.type in ("LPAR", "LSQB"):
                stack.append(token)
            elif token.type in CLOSERS and stack:
                stack.pop()
        return stack[-1] if stack else None

    @property
    def wants_value(self) -> bool:
        """Whether a value must come."""
        return {"NUMBER", "LPAR"} <= self.accepts

    @property
    def ends_value(self) -> bool:
        """Whether a value has just ended."""
        return "ARROW" in self.accepts or "STAR" in self.accepts

    @property
    def in_section(self) -> bool:
        """Whether the place is in a `data` or `train` section."""
        return self.braces > 0 and self.tokens[self.item] in ("data", "train")

    @property
    def line_ended(self) -> bool:
        """Whether the statement stopped with its line."""
        if self.found.type in ("NEWLINE", "$END"):
            return True
        text = self.found.file.text
        return (
            self.found.type == "RBRACE"
            and self.index > 0
            and "\n" in text[self.tokens[self.index - 1].end : self.found.start]
        )

    @property
    def shown(self) -> str:
        """The token found, for a message."""
        return KINDS["NEWLINE"] if self.line_ended else f"`{self.found}`"

    def mistake(self, code: str, message: str, help: str = "", at: Word | None = None) -> Diagnostic:
        """A diagnostic at a token, or else at the one found; at a line's end, right behind the last token."""
        word = at or self.found
        span = word.span
        if word is self.found and self.line_ended and self.index:
            end = self.tokens[self.index - 1].end
            span = Span(word.file, end, end)
        return Diagnostic(code, message, span, help=help)
