"""The one way a spec is written: spaces, indentation and line ends; words, comments and their order stay.

Four spaces indent. The author's line ends are kept where they are good style: before `->`, after `=` of a block, and behind
an opening bracket, which puts its items on lines of their own. Lines over 120 columns are broken at `->`, then at brackets.
One blank line at most. The values of a section stand in one column; `=` of neighbouring assignments, comments at the ends
of neighbouring lines, and numbers in rows do so where the author has begun it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dlc.compiler.frontend.parser import parse_words
from dlc.compiler.frontend.printer import WIDTH, Line, Piece, Printer
from dlc.compiler.frontend.spacing import Context, Spacing
from dlc.compiler.frontend.word import Word
from dlc.compiler.source import SourceFile

_ROUNDS = 4  # alignments of the author's may be seen only when lines have come together; two have always been enough


def format_source(source: SourceFile) -> str:
    """The formatted text; formatting it again changes nothing. Raises DlcError for syntax errors, as `parse`."""
    text = source.text
    for _ in range(_ROUNDS):
        formatted = _format(SourceFile(source.name, text))
        if formatted == text:
            break
        text = formatted
    return text


@dataclass
class Statement:
    """One line of a file as the grammar sees it: an item's header with its `{`, a statement, a setting, or a `}`."""

    pieces: list[Piece]
    level: int
    context: Context


def _format(source: SourceFile) -> str:
    _, words = parse_words(source)
    lines: list[Line] = []
    for statement in _align(list(_statements(source, words.tokens, words.comments))):
        Printer(lines, statement.level).write(statement.pieces)
    _align_comments(lines)
    while lines and lines[0].is_empty:
        del lines[0]
    text = "\n".join(row for line in lines for row in line.rows())
    return text + "\n" if text else ""


def _statements(source: SourceFile, tokens: Sequence[Word], comments: Sequence[Word]) -> Iterator[Statement]:
    """The file cut at its line ends and braces."""
    pieces = _pieces(source, tokens, comments)
    level, section, index = 0, False, 0
    while pieces[index].word.type != "$END":
        end = _line_end(pieces, index)
        line, index = pieces[index:end], end
        first, last = line[0].word.type, line[-1].word.type
        if last == "LBRACE":
            section = first in ("DATA", "TRAIN")
            header = _header(line)
            whole = _one_line(header, pieces[end : end + _body_length(pieces, end)], section)
            if whole is not None:
                index, section = end + len(whole) - len(header), False
                yield Statement(whole, level, Context(definition=True))
            else:
                yield Statement(header, level, Context(definition=True))
                level += 1
        elif first == "RBRACE":
            level, section = level - 1, False
            yield Statement(line, level, Context())
        elif first != "NEWLINE":
            yield _statement(line, level, section)
    if pieces[index].leading:
        yield Statement(pieces[index:], 0, Context())


def _line_end(pieces: Sequence[Piece], index: int) -> int:
    """Behind the line that starts at `index`: a NEWLINE or `}` alone, else up to one or through `{`."""
    if pieces[index].word.type in ("NEWLINE", "RBRACE"):
        return index + 1
    while pieces[index].word.type not in ("NEWLINE", "RBRACE", "LBRACE", "$END"):
        index += 1
    return index + (pieces[index].word.type == "LBRACE")


def _statement(line: list[Piece], level: int, section: bool) -> Statement:
    context = Context(definition=not level, setting=section)
    _space(line, context)
    return Statement(line, level, context)


def _header(line: list[Piece]) -> list[Piece]:
    """A header with its `{`, on the same line: comments between them go behind the brace."""
    before, brace = line[-2:]
    brace.trailing = [*before.trailing, *(comment for comment, _ in brace.leading), *brace.trailing]
    before.trailing, brace.leading = [], []
    _space(line, Context(definition=True))
    return line


def _body_length(pieces: Sequence[Piece], start: int) -> int:
    """How many tokens a body has from behind its `{` through its `}`."""
    kinds = [p.word.type for p in pieces[start:]]
    return kinds.index("RBRACE") + 1


def _one_line(header: list[Piece], body: list[Piece], section: bool) -> list[Piece] | None:
    """The whole item on one line, if the author had its body there, with one statement at most, and there is room."""
    *statement, closer = body
    if not statement:
        closer.broken = closer.blank = False
    if any(p.broken or p.leading for p in body if p.word.type != "NEWLINE") or any(
        p.trailing for p in [*header, *statement]
    ):
        return None
    if any(p.word.type == "NEWLINE" for p in statement):
        return None
    if statement:
        _space(statement, Context(setting=section))
        statement[0].space = closer.space = True
    whole = [*header, *body]
    return whole if sum(p.width for p in whole) <= WIDTH else None


def _pieces(source: SourceFile, tokens: Sequence[Word], comments: Sequence[Word]) -> list[Piece]:
    """The tokens with their comments and what stood between them in the source."""
    rows = _NumberRows(source, tokens)
    pieces: list[Piece] = []
    waiting = list(reversed(comments))
    last: Piece | None = None
    end = 0
    for token in tokens:
        piece = Piece(token)
        while waiting and waiting[-1].start < token.start and token.type != "NEWLINE":
            comment = waiting.pop()
            gap = source.text[end : comment.start]
            if last is not None and ("\n" not in gap or _continues(last, comment, gap)):
                last.trailing.append(comment)
            else:
                piece.leading.append((comment, _is_blank(gap) and end > 0))
            end = comment.end
        if token.type != "NEWLINE":
            gap = source.text[end : token.start]
            piece.broken = "\n" in gap
            piece.blank = _is_blank(gap) and end > 0
            piece.extra = rows.extra(last.word if last else None, token)
            end, last = token.end, piece
        pieces.append(piece)
    return pieces


def _continues(piece: Piece, comment: Word, gap: str) -> bool:
    """Whether a comment on its own line goes on with the one at the end of the line above: it starts in its column."""
    return bool(piece.trailing) and gap.count("\n") == 1 and piece.trailing[-1].indentation == comment.indentation


def _is_blank(gap: str) -> bool:
    return gap.count("\n") > 1


def _space(line: list[Piece], context: Context) -> None:
    spacing = Spacing(context)
    for piece, apart in zip(line, spacing.of([p.word for p in line]), strict=True):
        piece.space = apart
        piece.kind = spacing.kinds.get(piece.word.start, "")


@dataclass
class _NumberRows:
    """Finds the spaces that right-align a number with one in the line above or below."""

    source: SourceFile
    tokens: Sequence[Word]
    ends: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ends = {self._end(t) for t in self.tokens if t.type == "NUMBER"}

    def extra(self, before: Word | None, word: Word) -> int:
        """How many spaces before `word` are to be kept beyond the usual one."""
        if before is None or before.type != "COMMA" or word.type != "NUMBER" or word.start - before.end < 2:
            return 0
        if self.source.text[before.end : word.start].strip(" "):
            return 0
        line, column = self._end(word)
        return word.start - before.end - 1 if {(line - 1, column), (line + 1, column)} & self.ends else 0

    def _end(self, word: Word) -> tuple[int, int]:
        return self.source.position(word.end)


def _align(statements: list[Statement]) -> list[Statement]:
    """Put the values of a section, and `=` of neighbouring assignments where the author did, into one column."""
    run: list[Statement] = []
    for statement in [*statements, None]:
        if statement is not None and statement.context.setting:
            run.append(statement)
            continue
        width = max((len(s.pieces[0].word) for s in run), default=0)
        for setting in run:
            if len(setting.pieces) > 1:
                setting.pieces[1].extra = width - len(setting.pieces[0].word)
        run = []
    for group in _assignments(statements):
        if any(s.pieces[_equals(s)].word.start - s.pieces[_equals(s) - 1].word.end > 1 for s in group):
            width = max(_target_width(s) for s in group)
            for s in group:
                s.pieces[_equals(s)].extra = width - _target_width(s)
    return statements


def _assignments(statements: Sequence[Statement]) -> Iterator[list[Statement]]:
    """Assignments on neighbouring lines with `=` in one column."""
    run: list[Statement] = []
    for statement in statements:
        first, equals = statement.pieces[0], _equals(statement)
        if run and (first.blank or first.leading or not equals or _column(statement) != _column(run[-1])):
            yield run
            run = []
        if equals:
            run.append(statement)
    if run:
        yield run


def _column(statement: Statement) -> int:
    return statement.pieces[_equals(statement)].word.indentation


def _equals(statement: Statement) -> int:
    """Where the `=` of an assignment is; 0 if the statement is none."""
    if statement.level == 0 or statement.context.setting or statement.context.definition:
        return 0
    for index, piece in enumerate(statement.pieces):
        if piece.word.type == "EQUAL":
            return index
        if piece.word.type not in ("NAME", "COMMA") or piece.trailing:
            return 0
    return 0


def _target_width(statement: Statement) -> int:
    return sum(len(p.word) + p.space for p in statement.pieces[: _equals(statement)])


def _align_comments(lines: Sequence[Line]) -> None:
    """Put the comments at the ends of neighbouring lines into one column where two of them were in one."""
    run: list[Line] = []
    for line in [*lines, None]:
        if line is not None and (line.code and not line.is_brace):
            if line.comments:
                run.append(line)
            continue
        columns = [r.comments[0].indentation for r in run]
        if len(set(columns)) < len(columns):
            width = max(len(r.code) for r in run)
            for r in run:
                r.comment_column = width + 2
        run = []
