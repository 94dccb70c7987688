"""From text to tokens: the words, numbers, strings and signs of a file, laid out for the grammar, and its comments."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from dlc.compiler.errors import Diagnostic, DlcError
from dlc.compiler.frontend.ast import UNITS
from dlc.compiler.frontend.layout import lay_out
from dlc.compiler.frontend.word import Word
from dlc.compiler.source import SourceFile, Span

MAX_CHARACTERS = 1_000_000
MAX_LINE = 10_000
MAX_TOKENS = 60_000
MAX_DIGITS = 100

_ESCAPES = {"\\": "\\", '"': '"', "n": "\n", "t": "\t"}

_LOOK_ALIKES = {
    "\N{RIGHTWARDS ARROW}": "an arrow is written `->`",
    "\N{RIGHTWARDS DOUBLE ARROW}": "a lambda's arrow is written `=>`",
    "\N{MULTIPLICATION SIGN}": "a product is written `*`",
    "\N{MINUS SIGN}": "a minus is written `-`",
    "\N{EN DASH}": "a minus is written `-`",
    "\N{LEFT DOUBLE QUOTATION MARK}": 'strings stand in plain double quotes: "text"',
    "\N{RIGHT DOUBLE QUOTATION MARK}": 'strings stand in plain double quotes: "text"',
    "\N{LEFT SINGLE QUOTATION MARK}": 'strings stand in plain double quotes: "text"',
    "\N{RIGHT SINGLE QUOTATION MARK}": 'strings stand in plain double quotes: "text"',
    "\N{LESS-THAN OR EQUAL TO}": "at most is written `<=`",
    "\N{GREATER-THAN OR EQUAL TO}": "at least is written `>=`",
    "\N{NOT EQUAL TO}": "different is written `!=`",
    "\N{HORIZONTAL ELLIPSIS}": "a range is written `0..n`",
    "\N{NO-BREAK SPACE}": "this is a non-breaking space; put a plain one",
    "\N{ZERO WIDTH NO-BREAK SPACE}": "this is a byte order mark; it stands at the start of a file only",
    ";": "a statement ends with its line; put the next one on its own line",
    "!": "negation is written `not`",
    "&": "write `and`",
    "|": "write `or`",
    "@": "decorators are not part of the language",
    "?": "a choice is written `x if condition else y`",
    "~": "negation is written `not`",
    "^": "a power is written `**`",
}


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
    def of(cls, signs: Mapping[str, str], shapes: Mapping[str, str], soft: Collection[str]) -> Lexer:
        """The lexer of a grammar's terminals: signs and keywords by text, others by name with their regular expression.

        Words of the terminals named in `soft` are NAMEs here.
        """
        words = {text: name for text, name in signs.items() if text.isidentifier()}
        operators = sorted((text for text in signs if text not in words), key=lambda text: (-len(text), text))
        alternatives = [
            f"(?P<{name}>{shapes[name]})" for name in ("SPACE", "NAME", "NUMBER", "STRING", "NEWLINE", "COMMENT")
        ]
        alternatives.append(r'(?P<OPEN_STRING>"(\\.|[^"\\\n])*\\?|\'(\\.|[^\'\\\n])*\'?)')
        alternatives.append(f"(?P<UNIT>{shapes['UNIT']})")
        alternatives.append("(?P<SIGN>" + "|".join(re.escape(text) for text in operators) + ")")
        alternatives.append("(?P<UNKNOWN>.)")
        keywords = {text: name for text, name in words.items() if name not in soft}
        return cls(re.compile("|".join(alternatives)), {text: signs[text] for text in operators}, keywords)

    def words(self, source: SourceFile) -> Words:
        """The tokens of a text, laid out, and its comments. Raises DlcError where a limit is passed (E0110)."""
        _check_size(source)
        scan = _Scan(source)
        self._scan(scan)
        if len(scan.raw) > MAX_TOKENS:
            message = f"a file of more than {MAX_TOKENS:,} words and signs"
            raise DlcError.of("E0110", message, span=scan.raw[MAX_TOKENS].span)
        return Words(lay_out(scan.raw, scan.mistakes), scan.comments, scan.mistakes)

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
                if not scan.unknown(token):
                    continue
                token = token.become("BAD")
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

    def unknown(self, token: Word) -> bool:
        """Note a character that no terminal starts with; False if it may be passed over."""
        last = self.mistakes[-1] if self.mistakes else None
        if token.start == 0 and token == "\N{ZERO WIDTH NO-BREAK SPACE}":
            return False
        if last and last.code == "E0101" and last.span and last.span.end == token.start and last.span.text[-1] == token:
            self.mistakes[-1] = replace(last, span=last.span.to(token.span))
            return False
        shown = f"`{token}`" if token.isprintable() else f"character U+{ord(token):04X}"
        help = _LOOK_ALIKES.get(str(token), "")
        self._mistake("E0101", f"{shown} is not part of the language", token.start, token.end, help)
        return True

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
        if re.fullmatch(r"x[0-9]+", word):
            help = f"two numbers are written ({number}, {word[1:]})"
            self._mistake("E0103", f"`{text}` is not a number", number.start, word.end, help)
            return
        units = ", ".join(UNITS)
        self._mistake(
            "E0103",
            f"`{word}` is not a unit",
            word.start,
            word.end,
            f"units are {units}; a name cannot start with a digit",
        )


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
    for start, end in pairwise(starts):
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
