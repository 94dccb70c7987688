"""Where statements end: line ends that end none are dropped, and brackets are paired.

Mistakes are noted and repaired, so that one run finds them all; a `BAD` token marks a statement that was repaired.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dlc.compiler.errors import Diagnostic, DlcError
from dlc.compiler.frontend.word import DEFINITIONS, Word

MAX_NESTING = 50

_OPENERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
_CLOSERS = {"RPAR", "RSQB", "RBRACE"}
_SIGNS = {"LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "LBRACE": "{", "RBRACE": "}"}
_GOES_ON = {"EQUAL", "ARROW", "GIVES"}


def lay_out(raw: list[Word], mistakes: list[Diagnostic]) -> list[Word]:
    """The tokens for the grammar: NEWLINE only between items, statements and settings. Adds to `mistakes`.

    `raw` holds all tokens but comments, each line's end as NEWLINE, and ends with NEWLINE, $END. Raises DlcError (E0109)
    where brackets are nested too deeply.
    """
    return _Layout(raw, mistakes).run()


@dataclass(frozen=True)
class _Open:
    """A bracket that waits for its partner: its place in the raw tokens, the tokens before it, and how far its line is indented."""

    token: Word
    index: int
    before: int
    indentation: int


@dataclass
class _Layout:
    raw: list[Word]
    mistakes: list[Diagnostic]
    out: list[Word] = field(default_factory=list)
    stack: list[_Open] = field(default_factory=list)
    indentation: int = 0
    noted: set[tuple[str, int]] = field(default_factory=set)

    def run(self) -> list[Word]:
        index = 0
        while index < len(self.raw):
            index = self._step(index)
        return self.out

    def _step(self, index: int) -> int:
        """Take the raw token at `index`; where to go on."""
        token = self.raw[index]
        kind = token.type
        in_brackets = bool(self.stack) and self.stack[-1].token.type != "LBRACE"
        if kind == "NEWLINE":
            if in_brackets and self._starts_definition(index + 1):
                return self._unclosed_bracket(index + 1)
            if not in_brackets:
                self._line_end(index)
        elif kind in _OPENERS:
            if kind == "LBRACE" and in_brackets:
                return self._brace_in_brackets(index)
            if len(self.stack) >= MAX_NESTING:
                raise DlcError.of("E0109", f"brackets nested more than {MAX_NESTING} deep", span=token.span)
            self.stack.append(_Open(token, index, len(self.out), self.indentation))
            self._emit(token)
        elif kind in _CLOSERS:
            return self._close(index)
        elif kind == "$END":
            if in_brackets:
                return self._unclosed_bracket(index)
            if self.stack:
                return self._unclosed_brace(index)
            self._emit(token)
        else:
            self._emit(token)
        return index + 1

    def _emit(self, token: Word) -> None:
        if not self.out or self.out[-1].type in ("NEWLINE", "LBRACE"):
            self.indentation = token.indentation
        self.out.append(token)

    def _line_end(self, index: int) -> None:
        """Keep a line end where it ends a statement."""
        following = self._next(index)
        if (
            not self.out
            or self.out[-1].type in ("NEWLINE", "LBRACE")
            or following.type in ("RBRACE", "LBRACE", "$END")
            or self._continues(following)
        ):
            return
        if self.out[-1].type in _GOES_ON and following.indentation > self.indentation:
            return
        self.out.append(self.raw[index])

    def _continues(self, word: Word) -> bool:
        """Whether a line that starts with this word goes on with the one before."""
        return word.type == "ARROW" or (word == "then" and self._in_section())

    def _in_section(self) -> bool:
        """Whether the innermost brace is that of a `data` or `train` section."""
        if not self.stack or self.stack[-1].token.type != "LBRACE":
            return False
        before = self.stack[-1].before
        return before >= 2 and self.out[before - 2] in ("data", "train")

    def _next(self, index: int) -> Word:
        while self.raw[index].type == "NEWLINE":
            index += 1
        return self.raw[index]

    def _starts_definition(self, index: int) -> bool:
        """Whether the line at `index` cannot go on inside brackets: `model X`, `input x`, `}` …"""
        first, second = self.raw[index], self.raw[min(index + 1, len(self.raw) - 1)]
        if first.type != "NAME" or second.type not in ("NAME", "STRING"):
            return False
        return first in DEFINITIONS or first in ("input", "expect", "output")

    def _close(self, index: int) -> int:
        token = self.raw[index]
        top = self.stack[-1].token.type if self.stack else ""
        if token.type == "RBRACE" and top == "LBRACE" and self.raw[index + 1].type == "ARROW":
            self._mistake("E0105", "`}` stands in the middle of a chain", token, "remove it")
            self._emit(token.become("BAD"))
        elif _OPENERS.get(top) == token.type:
            self.stack.pop()
            self._emit(token)
        elif token.type == "RBRACE":
            if self.stack:
                return self._unclosed_bracket(index)
            self._mistake("E0105", "`}` closes nothing", token, "remove it, or give its `{` back")
        elif top in ("", "LBRACE"):
            self._emit(token)
        else:
            opened = self.stack[-1].token
            line = opened.span.line
            self._mistake(
                "E0105",
                f"expected `{_SIGNS[_OPENERS[top]]}` to close the `{opened}` of line {line}, found `{token}`",
                token,
            )
            matching = [n for n, o in enumerate(self.stack) if _OPENERS[o.token.type] == token.type]
            if matching:
                del self.stack[matching[-1] :]
            else:
                self.stack.pop()
            self._emit(token.become("BAD"))
        return index + 1

    def _brace_in_brackets(self, index: int) -> int:
        if not any(o.token.type == "LBRACE" for o in self.stack):
            return self._unclosed_bracket(index)
        token = self.raw[index]
        self._mistake(
            "E0108", "`{` cannot stand inside brackets", token, "lists are written `[a, b]`, named values `name=value`"
        )
        return self._give_up_statement(index)

    def _unclosed_bracket(self, index: int) -> int:
        opened = self.stack[-1].token
        self._mistake(
            "E0104", f"`{opened}` is never closed", opened, f"close it with `{_SIGNS[_OPENERS[opened.type]]}`"
        )
        return self._give_up_statement(index)

    def _give_up_statement(self, index: int) -> int:
        """Leave the statement with open brackets, found wrong at `index`; where its next neighbour starts.

        That is the first line behind the bracket which is indented no deeper than the statement and does not go on with it.
        """
        while self.stack and self.stack[-1].token.type != "LBRACE":
            opened = self.stack.pop()
        del self.out[opened.before :]
        self._emit(opened.token.become("BAD"))
        for place in range(opened.index + 1, index):
            following = self.raw[place + 1]
            if self.raw[place].type != "NEWLINE" or following.type == "NEWLINE":
                continue
            goes_on = self._continues(following) or following.type in ("RPAR", "RSQB")
            if following.indentation <= opened.indentation and not goes_on:
                return place
        return index

    def _unclosed_brace(self, index: int) -> int:
        """At the end of the file: close the brace before the next definition that starts no deeper than the brace's line."""
        opened = self.stack.pop()
        self._mistake("E0104", "`{` is never closed", opened.token, "close it with `}` on a line of its own")
        closing = opened.token.become("RBRACE")
        for place in range(opened.index + 1, index):
            following = self.raw[place + 1]
            if self.raw[place].type != "NEWLINE" or following.indentation > opened.indentation:
                continue
            if following in DEFINITIONS and self.raw[place + 2].type in ("NAME", "STRING"):
                del self.out[self._kept(place) :]
                self._append_closing(closing)
                self.out.append(self.raw[place])
                return place + 1
        self._append_closing(closing)
        return index

    def _append_closing(self, closing: Word) -> None:
        if self.out[-1].type == "NEWLINE":
            self.out.pop()
        self.out.append(closing)

    def _kept(self, place: int) -> int:
        """How many tokens were given out for the raw tokens before `place`."""
        limit = self.raw[place].start
        count = len(self.out)
        while count and self.out[count - 1].start >= limit:
            count -= 1
        return count

    def _mistake(self, code: str, message: str, token: Word, help: str = "") -> None:
        if (code, token.start) not in self.noted:
            self.noted.add((code, token.start))
            self.mistakes.append(Diagnostic(code, message, token.span, help=help))
