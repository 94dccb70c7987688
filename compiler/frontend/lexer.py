"""From text to tokens: words and signs, then the layout, which decides where a statement ends.

Mistakes are noted and repaired, so that one run finds them all; a `BAD` token marks a statement that was repaired.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from lark import Token
from lark.lexer import PatternStr, TerminalDef

from dlc.compiler.errors import Diagnostic, DlcError
from dlc.compiler.frontend.ast import UNITS
from dlc.compiler.source import SourceFile, Span

MAX_CHARACTERS = 1_000_000
MAX_LINE = 10_000
MAX_TOKENS = 60_000
MAX_NESTING = 50
MAX_DIGITS = 100

DEFINITIONS = {"import": "IMPORT", "model": "MODEL", "block": "BLOCK", "data": "DATA", "train": "TRAIN"}
"""The words that open an item of a file, with their terminals."""

_OPENERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
_CLOSERS = {"RPAR", "RSQB", "RBRACE"}
_SIGNS = {"LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "LBRACE": "{", "RBRACE": "}"}
_GOES_ON = {"EQUAL", "ARROW", "GIVES"}
_ESCAPES = {"\\": "\\", '"': '"', "n": "\n", "t": "\t"}

_LOOK_ALIKES = {
    "→": "an arrow is written `->`",
    "⇒": "a lambda's arrow is written `=>`",
    "×": "a product is written `*`",
    "−": "a minus is written `-`",
    "–": "a minus is written `-`",
    "“": 'strings stand in plain double quotes: "text"',
    "”": 'strings stand in plain double quotes: "text"',
    "‘": 'strings stand in plain double quotes: "text"',
    "’": 'strings stand in plain double quotes: "text"',
    "≤": "at most is written `<=`",
    "≥": "at least is written `>=`",
    "≠": "different is written `!=`",
    "…": "a range is written `0..n`",
    "\u00a0": "this is a non-breaking space; put a plain one",
    "\ufeff": "this is a byte order mark; it stands at the start of a file only",
    ";": "a statement ends with its line; put the next one on its own line",
    "!": "negation is written `not`",
    "&": "write `and`",
    "|": "write `or`",
    "@": "decorators are not part of the language",
    "?": "a choice is written `x if condition else y`",
    "~": "negation is written `not`",
    "^": "a power is written `**`",
}


class Word(Token):
    """A token of a file: its text, its terminal's name as `type`, where it stands and how far from its line's start."""

    file: SourceFile
    start: int
    end: int
    indentation: int

    @classmethod
    def of(cls, kind: str, text: str, file: SourceFile, start: int, end: int, indentation: int) -> Word:
        word = cls(kind, text)
        word.file, word.start, word.end, word.indentation = file, start, end, indentation
        return word

    @property
    def span(self) -> Span:
        return Span(self.file, self.start, self.end)

    def become(self, kind: str, text: str = "") -> Word:
        """A token of another kind in the same place."""
        return Word.of(kind, text, self.file, self.start, self.end, self.indentation)


@dataclass(frozen=True)
class Words:
    """A file's tokens for the grammar, its comments, and the mistakes found on the way."""

    tokens: list[Word]
    comments: list[Word]
    mistakes: list[Diagnostic]


@dataclass(frozen=True)
class Lexer:
    """Cuts text into the grammar's terminals. `keywords` are the words that are never names."""

    pattern: re.Pattern[str]
    kinds: dict[str, str]
    keywords: dict[str, str]

    @classmethod
    def of(cls, terminals: Collection[TerminalDef], soft: Collection[str]) -> Lexer:
        """The lexer of a grammar's terminals; words of the terminals named in `soft` are NAMEs here."""
        signs = {t.pattern.value: t.name for t in terminals if isinstance(t.pattern, PatternStr)}
        words = {text: name for text, name in signs.items() if text.isidentifier()}
        operators = sorted((text for text in signs if text not in words), key=lambda text: (-len(text), text))
        shapes = {t.name: t.pattern.value for t in terminals if not isinstance(t.pattern, PatternStr)}
        alternatives = [
            f"(?P<{name}>{shapes[name]})" for name in ("SPACE", "NAME", "NUMBER", "STRING", "NEWLINE", "COMMENT")
        ]
        alternatives.append(r'(?P<OPEN_STRING>"(\\.|[^"\\\n])*\\?|\'(\\.|[^\'\\\n])*\'?)')
        alternatives.append(f"(?P<UNIT>{shapes['UNIT']})")
        alternatives.append("(?P<SIGN>" + "|".join(re.escape(text) for text in operators) + ")")
        alternatives.append("(?P<UNKNOWN>.)")
        keywords = {text: name for text, name in words.items() if name not in soft}
        return cls(re.compile("|".join(alternatives)), {text: signs[text] for text in operators}, keywords)

    def tokens(self, source: SourceFile) -> Words:
        """The tokens of a text, laid out. Raises DlcError where a limit is passed (E0110)."""
        _check_size(source)
        scan = _Scan(source)
        self._scan(scan)
        if len(scan.raw) > MAX_TOKENS:
            raise _limit(
                source, MAX_TOKENS, scan.raw[MAX_TOKENS], f"a file of more than {MAX_TOKENS:,} words and signs"
            )
        layout = _Layout(source, scan.raw, scan.mistakes)
        return Words(layout.run(), scan.comments, scan.mistakes)

    def _scan(self, scan: _Scan) -> None:
        raw, kinds, keywords = scan.raw, self.kinds, self.keywords
        line_start = 0
        for match in self.pattern.finditer(scan.source.text):
            kind = match.lastgroup or ""
            if kind == "SPACE":
                continue
            text, start, end = match.group(), match.start(), match.end()
            if kind == "NAME":
                kind = keywords.get(text, kind)
            elif kind == "SIGN":
                kind = kinds[text]
            token = Word.of(kind, text, scan.source, start, end, start - line_start)
            if kind == "NEWLINE":
                line_start = end
            elif kind == "COMMENT":
                scan.comments.append(token)
                continue
            elif kind == "UNKNOWN":
                scan.unknown(token)
                continue
            elif kind == "OPEN_STRING":
                token = scan.open_string(token)
            elif kind == "STRING" and "\\" in text:
                scan.check_escapes(token)
            elif kind == "NUMBER":
                scan.check_number(token)
            elif raw and raw[-1].end == start and raw[-1].type == "NUMBER" and kind == "NAME" and text not in UNITS:
                scan.bad_number(token)
                continue
            raw.append(token)
        end = len(scan.source.text)
        raw.append(Word.of("NEWLINE", "", scan.source, end, end, end - line_start))
        raw.append(Word.of("$END", "", scan.source, end, end, 0))


@dataclass
class _Scan:
    """The raw tokens of a text, and what was wrong with single ones."""

    source: SourceFile
    raw: list[Word] = field(default_factory=list)
    comments: list[Word] = field(default_factory=list)
    mistakes: list[Diagnostic] = field(default_factory=list)

    def _mistake(self, code: str, message: str, start: int, end: int, help: str = "") -> None:
        self.mistakes.append(Diagnostic(code, message, Span(self.source, start, end), help=help))

    def unknown(self, token: Word) -> None:
        start, end = token.start, token.end
        last = self.mistakes[-1] if self.mistakes else None
        if last and last.code == "E0101" and last.span and last.span.end == start and last.span.text[-1] == token:
            self.mistakes[-1] = Diagnostic(
                "E0101", last.message, Span(self.source, last.span.start, end), help=last.help
            )
            return
        if start == 0 and token == "\ufeff":
            return
        shown = f"`{token}`" if token.isprintable() else f"character U+{ord(token):04X}"
        self._mistake("E0101", f"{shown} is not part of the language", start, end, _LOOK_ALIKES.get(str(token), ""))

    def open_string(self, token: Word) -> Word:
        start, end = token.start, token.end
        if token.startswith("'"):
            text = token.strip("'")
            self._mistake("E0102", "strings stand in double quotes", start, end, f'write "{text}"')
        else:
            self._mistake("E0102", "string without its closing quote", start, end, 'close it with `"` on the same line')
        return token.become("STRING", '""')

    def check_escapes(self, token: Word) -> None:
        for escape in re.finditer(r"\\(.)", token):
            if escape.group(1) not in _ESCAPES:
                place = token.start + escape.start()
                self._mistake(
                    "E0102",
                    f"unknown escape `{escape.group()}` in a string",
                    place,
                    place + 2,
                    r"known are \" \\ \n \t",
                )

    def check_number(self, token: Word) -> None:
        start, end = token.start, token.end
        previous = self.raw[-1] if self.raw else None
        if len(token) > MAX_DIGITS:
            self._mistake("E0103", f"a number of more than {MAX_DIGITS} digits", start, end)
        elif previous is not None and previous.type == "DOT" and previous.end == start and not _follows_value(self.raw):
            self._mistake("E0103", f"`.{token}` is not a number", start - 1, end, f"write 0.{token}")
            self.raw.pop()
        elif float(token.replace("_", "")) == float("inf"):
            self._mistake("E0103", f"{token} is too large for a number", start, end)

    def bad_number(self, word: Word) -> None:
        """`12abc`, `1_`, `0x1f`: a number with letters right behind it that are no unit."""
        number = self.raw[-1]
        text = f"{number}{word}"
        if word.startswith("_"):
            self._mistake(
                "E0103", f"`{text}` is not a number", number.start, word.end, "an underscore stands between two digits"
            )
            return
        units = ", ".join(UNITS)
        self._mistake(
            "E0103",
            f"`{word}` is not a unit",
            word.start,
            word.end,
            f"units are {units}; a name cannot start with a digit",
        )


@dataclass(frozen=True)
class _Open:
    """A bracket that waits for its partner: its place in the raw tokens, the tokens before it, and how far its line is indented."""

    token: Word
    index: int
    before: int
    indentation: int


@dataclass
class _Layout:
    """Drops the line ends that end no statement, and pairs the brackets."""

    source: SourceFile
    raw: list[Word]
    mistakes: list[Diagnostic]
    out: list[Word] = field(default_factory=list)
    stack: list[_Open] = field(default_factory=list)
    indentation: int = 0

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
                raise _limit(self.source, MAX_NESTING, token, f"brackets nested more than {MAX_NESTING} deep", "E0109")
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
            or following.type in ("ARROW", "RBRACE", "LBRACE", "$END")
        ):
            return
        if self.out[-1].type in _GOES_ON and following.indentation > self.indentation:
            return
        self.out.append(self.raw[index])

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
        if _OPENERS.get(top) == token.type:
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
            goes_on = following.type == "ARROW" or following.type in _CLOSERS and following.type != "RBRACE"
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
            if self.raw[place].type == "NEWLINE" and following.indentation <= opened.indentation:
                if following in DEFINITIONS and self.raw[place + 2].type in ("NAME", "STRING"):
                    del self.out[self._kept(place) :]
                    del self.stack[self._depth(place) :]
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

    def _depth(self, place: int) -> int:
        return sum(o.index < place for o in self.stack)

    def _mistake(self, code: str, message: str, token: Word, help: str = "") -> None:
        span = token.span
        if not any(m.code == code and m.span == span for m in self.mistakes):
            self.mistakes.append(Diagnostic(code, message, span, help=help))


def string_value(text: str) -> str:
    """What a string literal means: `text` with its quotes."""
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m.group(1), m.group(1)), text[1:-1])


def _follows_value(raw: list[Word]) -> bool:
    """Whether the last token, a dot, stands right behind something that may have an attribute."""
    if len(raw) < 2:
        return False
    before, dot = raw[-2], raw[-1]
    return before.end == dot.start and before.type in ("NAME", "NUMBER", "RPAR", "RSQB", "IN", "STAR", "POWER")


def _check_size(source: SourceFile) -> None:
    if len(source.text) > MAX_CHARACTERS:
        message = f"a file of {len(source.text):,} characters; at most {MAX_CHARACTERS:,} are read"
        raise DlcError.of("E0110", message, span=None, notes=[source.name])
    starts = [*source.line_starts, len(source.text) + 1]
    for start, end in zip(starts, starts[1:], strict=False):
        if end - start > MAX_LINE:
            message = f"a line of {end - start - 1:,} characters; at most {MAX_LINE:,} are read"
            span = Span(source, start, start + 1)
            number = span.line
            raise DlcError.of(
                "E0110",
                message,
                notes=[f"line {number} of {source.name}"],
                help="break the line inside brackets or before `->`",
            )


def _limit(source: SourceFile, limit: int, token: Word, what: str, code: str = "E0110") -> DlcError:
    return DlcError.of(code, f"{what} (the limit is {limit:,})", span=token.span)
