"""From text to the syntax tree, by the grammar in grammar/dlspec.lark and its tables; all mistakes of a file are found in one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from itertools import pairwise

from dlc.compiler.errors import Diagnostic, DlcError
from dlc.compiler.frontend import ast
from dlc.compiler.frontend.lexer import Lexer, Words
from dlc.compiler.frontend.syntax_errors import explain
from dlc.compiler.frontend.syntax_place import Place
from dlc.compiler.frontend.tables import Run, Unexpected, shapes, signs
from dlc.compiler.frontend.word import DEFINITIONS, Word
from dlc.compiler.source import SourceFile, Span

MAX_DEPTH = 100
MAX_MISTAKES = 100

_STATEMENT_WORDS = {"input": "INPUT", "expect": "EXPECT", "output": "OUTPUT"}
_BEHIND_A_VARIABLE = {"EQUAL", "ARROW", "DOT", "LPAR", "LSQB", "COMMA"}
_SOFT_WORDS = {
    **DEFINITIONS,
    **_STATEMENT_WORDS,
    "as": "AS",
    "extends": "EXTENDS",
    "when": "WHEN",
    "then": "THEN",
    "from": "FROM",
}


def parse(source: SourceFile) -> ast.File:
    """The syntax tree of a file. Raises DlcError with a diagnostic (E01…) for each mistake found."""
    return parse_words(source)[0]


def parse_words(source: SourceFile) -> tuple[ast.File, Words]:
    """The syntax tree and the tokens it was made of, keywords told from names, with the comments. Raises as `parse`."""
    words = _lexer().words(source)
    run = _Run(words.tokens, Run())
    items = run.parse()
    mistakes = sorted([*words.mistakes, *run.mistakes], key=lambda m: m.span.start if m.span else -1)
    if len(mistakes) >= MAX_MISTAKES:
        message = f"more than {MAX_MISTAKES} mistakes: the rest of the file was not looked at"
        mistakes = [*mistakes[:MAX_MISTAKES], Diagnostic("E0110", message, mistakes[MAX_MISTAKES - 1].span)]
    if mistakes:
        raise DlcError(mistakes)
    file = ast.File(items, span=Span(source, 0, len(source.text)))
    _check_depth(file, words.tokens)
    return file, Words(run.fed, words.comments, [])


@cache
def _lexer() -> Lexer:
    return Lexer.of(signs(), shapes(), soft=set(_SOFT_WORDS.values()))


@dataclass
class _Run:
    """One run of the parser over a file's tokens, which goes on behind mistakes."""

    tokens: list[Word]
    parser: Run
    mistakes: list[Diagnostic] = field(default_factory=list)
    fed: list[Word] = field(default_factory=list)
    braces: int = 0
    item: int = 0  # where the item of the file started that is read now
    stray: bool = False  # whether the last item was a line that belongs to no definition

    def parse(self) -> tuple[ast.Definition, ...]:
        index, items = 0, ()
        while index < len(self.tokens) and len(self.mistakes) < MAX_MISTAKES:
            token = self._keyword(index)
            try:
                items = self.parser.feed(token)
            except Unexpected:
                index = self._recover(index, report=token.type != "BAD")
                continue
            except DlcError as error:
                self.mistakes += error.diagnostics
                index = self._recover(index, report=False)
                continue
            if token.type == "BAD":
                index = self._skip(index)
                continue
            self.fed.append(token)
            self._count(index)
            index += 1
        return items or ()

    def _count(self, index: int) -> None:
        kind = self.tokens[index].type
        if kind == "LBRACE":
            self.braces += 1
            self.stray = False
        elif kind == "RBRACE":
            self.braces -= 1
        elif kind == "NEWLINE" and not self.braces:
            self.item = index + 1

    def _keyword(self, index: int) -> Word:
        """The token, as a keyword where it is one here."""
        token = self.tokens[index]
        if token.type != "NAME":
            return token
        kind = _SOFT_WORDS.get(token, "UNIT" if token in ast.UNITS else "")
        if not self.parser.takes(kind):
            return token
        if token in _STATEMENT_WORDS and self.tokens[index + 1].type in _BEHIND_A_VARIABLE:
            return token
        return token.become(kind, str(token))

    def _recover(self, index: int, *, report: bool) -> int:
        """Take what was begun for a BAD item, statement or setting; where to go on."""
        if report:
            self._report(index)
        while not self.parser.takes("BAD" if self.braces else "BLOCK"):
            self.parser.drop()
        body = self._body_ahead(index)
        if body is not None:
            self._feed_header(self.tokens[self.item])
            return body
        self.parser.feed(self.tokens[index].become("BAD"))
        return self._skip(index)

    def _report(self, index: int) -> None:
        place = Place(self.tokens, index, self.item, self.braces, self.parser.accepted())
        mistake = explain(place)
        stray = mistake.code == "E0107" and not mistake.help.startswith("did you mean")
        if not (stray and self.stray):
            self.mistakes.append(mistake)
        self.stray = stray

    def _body_ahead(self, index: int) -> int | None:
        """Where the `{` of a wrong header is, if the mistake at `index` is in a header with a body to come."""
        if self.braces or any(t.type == "LBRACE" for t in self.tokens[self.item : index]):
            return None
        for place in range(index, len(self.tokens)):
            if self.tokens[place].type in ("LBRACE", "NEWLINE"):
                return place if self.tokens[place].type == "LBRACE" else None
        return None

    def _feed_header(self, word: Word) -> None:
        """A header in place of the wrong one, so that the mistakes in its body are found too."""
        settings = bool(get_close_matches(word, ["data", "train"])) and not get_close_matches(word, ["model", "block"])
        self.parser.feed(word.become("TRAIN" if settings else "BLOCK", "train"))
        self.parser.feed(word.become("NAME", "_"))

    def _skip(self, index: int) -> int:
        """The end of the statement or item at `index`: behind a BAD token, in front of a NEWLINE, a `}` or the end."""
        depth = 0
        while self.tokens[index].type != "$END":
            kind = self.tokens[index].type
            if not depth and kind in ("NEWLINE", "RBRACE"):
                break
            depth += {"LBRACE": 1, "RBRACE": -1}.get(kind, 0)
            index += 1
        return index


def _check_depth(file: ast.File, tokens: list[Word]) -> None:
    """Raise DlcError (E0109) for an expression that is nested too deeply to be worked with."""
    ends = [-1, *(n for n, token in enumerate(tokens) if token.type == "NEWLINE"), len(tokens)]
    if all(end - start <= MAX_DEPTH for start, end in pairwise(ends)):
        return
    level: list[ast.Node] = [file]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.children(node)]
        if not level:
            return
    help = "name parts of it, one statement each"
    raise DlcError.of("E0109", f"an expression of more than {MAX_DEPTH} levels", span=level[0].span, help=help)
