"""Prints one statement over as many lines as it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dlc.compiler.frontend.word import Word

WIDTH = 120
INDENT = 4
_SHORT = 32  # breaking a bracket of no more columns gains nothing
JOINTS = ("ARROW", "THEN")  # what a chain's line starts with, the schedules of a recipe included
_HEAD = 12  # a chain's lines stand under the value behind `=`, or the first arrow, if that is no further in


@dataclass
class Piece:
    """A token to print: comments before it on their own lines (each with whether a blank line stands before it) and
    behind it; whether the author had a line end or a blank line before it; spaces before it."""

    word: Word
    leading: list[tuple[Word, bool]] = field(default_factory=list)
    trailing: list[Word] = field(default_factory=list)
    broken: bool = False
    blank: bool = False
    space: bool = False
    extra: int = 0
    kind: str = ""  # of an opening bracket: "call", "parameters", "index", "group" or "list"

    @property
    def width(self) -> int:
        """Columns, with the spaces before it."""
        return len(self.word) + self.space + self.extra


@dataclass
class Line:
    """One line of the result. Comments beyond the first stand on lines of their own in the same column."""

    code: str = ""
    comments: list[Word] = field(default_factory=list)
    comment_column: int = 0

    @property
    def is_brace(self) -> bool:
        """Whether the line opens or closes a body."""
        return self.code.endswith("{") or self.code.startswith("}")

    @property
    def is_empty(self) -> bool:
        """Whether it is a blank line."""
        return not (self.code or self.comments)

    def rows(self) -> list[str]:
        """The text of the line and of its further comments."""
        if not self.comments:
            return [self.code]
        first, *rest = [c.rstrip() for c in self.comments]
        column = max(self.comment_column, len(self.code) + 2) if self.code.strip() else len(self.code)
        return [self.code.ljust(column) + first, *(" " * column + text for text in rest)]


@dataclass
class Printer:
    """Adds the lines of one statement, indented by `level` steps, to `lines`."""

    lines: list[Line]
    level: int

    def write(self, pieces: Sequence[Piece]) -> None:
        """Print a statement."""
        first = pieces[0]
        closes = first.word.type in ("RBRACE", "$END")
        base = self.level * INDENT
        self._leading(first, base + INDENT if first.word.type == "RBRACE" else base)
        if first.word.type == "$END":
            return
        self._start(base, first.blank and not closes)
        self._sequence(pieces, base, statement=True)

    def _start(self, indent: int, blank: bool) -> None:
        """Begin a line."""
        if blank and self.lines and not self.lines[-1].is_empty and not self.lines[-1].code.endswith("{"):
            self.lines.append(Line())
        self.lines.append(Line(" " * indent))

    def _leading(self, piece: Piece, indent: int) -> None:
        for comment, blank in piece.leading:
            self._start(indent, blank)
            self.lines[-1].comments.append(comment)

    @property
    def _column(self) -> int:
        return len(self.lines[-1].code)

    def _put(self, piece: Piece) -> None:
        line = self.lines[-1]
        fresh = not line.code.strip()
        line.code += ("" if fresh else " " * (piece.space + piece.extra)) + piece.word
        line.comments += piece.trailing

    def _sequence(self, pieces: Sequence[Piece], indent: int, *, statement: bool = False) -> None:
        """Print tokens with balanced brackets; lines after the first stand deeper than `indent`."""
        deeper = indent + INDENT
        arrows = 0  # the column of arrows that start a line; 0 while it is open
        index = 0
        while index < len(pieces):
            piece = pieces[index]
            end = _closing(pieces, index) if piece.kind else index
            if piece.word.type in JOINTS:
                stage = pieces[index : _until_arrow(pieces, index + 1)]
                if index and self._breaks(stage):
                    arrows = arrows or self._indentation + INDENT
                    self._new_line(piece, arrows)
                arrows = arrows or self._near(self._column + 1, indent)
            elif index and (piece.leading or self.lines[-1].comments):
                self._new_line(piece, deeper)
            elif statement and not arrows and index and pieces[index - 1].word.type == "EQUAL":
                if piece.broken:
                    self._new_line(piece, deeper)
                if not self._breaks_at_first_arrow(pieces, index):
                    arrows = self._near(self._column + (not piece.broken), indent)
            self._group(pieces[index : end + 1])
            index = end + 1

    def _breaks(self, stage: Sequence[Piece]) -> bool:
        """Whether a line starts with the arrow of a stage."""
        if not self.lines[-1].code.strip():
            return False
        arrow = stage[0]
        return arrow.broken or bool(arrow.leading or self.lines[-1].comments) or self._column + _width(stage) > WIDTH

    def _breaks_at_first_arrow(self, pieces: Sequence[Piece], index: int) -> bool:
        arrow = _until_arrow(pieces, index)
        return arrow < len(pieces) and pieces[arrow].broken

    def _near(self, column: int, indent: int) -> int:
        """The column, or if it is far in the usual one."""
        return column if column - indent <= _HEAD else indent + INDENT

    @property
    def _indentation(self) -> int:
        code = self.lines[-1].code
        return len(code) - len(code.lstrip())

    def _group(self, group: Sequence[Piece]) -> None:
        """Print a token, or a bracket with all it holds."""
        if len(group) > 1 and self._explodes(group):
            self._exploded(group)
            return
        self._put(group[0])
        index = 1
        while index < len(group):
            end = _closing(group, index) if group[index].kind else index
            if not (group[index].word.type == "COMMA" and index == len(group) - 2 and not _is_single(group)):
                self._group(group[index : end + 1])
            index = end + 1

    def _new_line(self, piece: Piece, indent: int) -> None:
        self._leading(piece, indent)
        self._start(indent, piece.blank)

    def _explodes(self, group: Sequence[Piece]) -> bool:
        """Whether a bracket's items get lines of their own."""
        if len(group) == 2 and not group[1].leading and not group[0].trailing:
            return False
        if any(p.leading for p in group[1:]) or any(p.trailing for p in group[:-1]):
            return True
        if group[1].broken or (_is_hug(group) and group[2].broken):
            return True
        return self._column + _width(group) > WIDTH and sum(p.width for p in group) > _SHORT

    def _exploded(self, group: Sequence[Piece]) -> None:
        opener, closer = group[0], group[-1]
        if _is_hug(group) and not group[1].broken:
            self._put(opener)
            self._exploded(group[1 : _closing(group, 1) + 1])
            self._put(closer)
            return
        base = self._indentation
        kept = group[1].broken
        self._put(opener)
        items = _items(group)
        for number, (item, comma) in enumerate(items):
            if not (kept and number and not item[0].broken and not item[0].leading and self._fits(item)):
                self._new_line(item[0], base + INDENT)
            held, item[-1].trailing = item[-1].trailing, []
            self._sequence(item, base + INDENT)
            if comma is not None or (number == len(items) - 1 and _takes_comma(group)):
                self.lines[-1].code += ","
            moved = [*(comment for comment, _ in comma.leading), *comma.trailing] if comma is not None else []
            self.lines[-1].comments += [*held, *moved]
        closer.blank = False
        self._leading(closer, base + INDENT)
        self._start(base, False)
        self._put(closer)

    def _fits(self, item: Sequence[Piece]) -> bool:
        return not self.lines[-1].comments and self._column + 1 + _width(item) < WIDTH


def _closing(pieces: Sequence[Piece], index: int) -> int:
    """The index of the bracket that closes the one at `index`."""
    depth = 0
    for place in range(index, len(pieces)):
        kind = pieces[place].word.type
        depth += (kind in ("LPAR", "LSQB")) - (kind in ("RPAR", "RSQB"))
        if not depth:
            return place
    raise AssertionError("brackets are paired in what the grammar has taken")


def _until_arrow(pieces: Sequence[Piece], index: int) -> int:
    """The index of the next arrow outside brackets, or the end."""
    while index < len(pieces) and pieces[index].word.type not in JOINTS:
        index = (_closing(pieces, index) if pieces[index].kind else index) + 1
    return index


def _width(pieces: Sequence[Piece]) -> int:
    """Columns up to the first line end that is certain to come."""
    total = 0
    for index, piece in enumerate(pieces):
        total += piece.width
        if piece.kind and index + 1 < len(pieces) and pieces[index + 1].broken:
            break
    return total


def _items(group: Sequence[Piece]) -> list[tuple[list[Piece], Piece | None]]:
    """What stands between the commas of a bracket, each with the comma behind it. Clauses count as items without comma."""
    items: list[tuple[list[Piece], Piece | None]] = []
    item: list[Piece] = []
    index = 1
    while index < len(group) - 1:
        end = _closing(group, index) if group[index].kind else index
        kind = group[index].word.type
        if kind == "COMMA" and not _in_clause(item):
            items.append((item, group[index]))
            item = []
        else:
            if kind == "FOR" and item:
                items.append((item, None))
                item = []
            item += group[index : end + 1]
        index = end + 1
    return [*items, (item, None)] if item else items


def _is_hug(group: Sequence[Piece]) -> bool:
    """Whether a call's only argument is a list, whose items stand as if the list had no parentheses: `chain([ … ])`."""
    if group[0].kind != "call" or group[1].kind != "list" or group[1].leading or group[0].trailing:
        return False
    end = _closing(group, 1)
    rest = group[end + 1 : -1]
    if any(p.word.type != "COMMA" for p in rest):
        return False
    return end > 2 and not any(p.trailing or p.leading for p in [group[end], *rest]) and not group[-1].leading


def _in_clause(item: Sequence[Piece]) -> bool:
    """Whether a comma stands between the names of `for a, b in …`."""
    return bool(item) and item[0].word.type == "FOR"


def _takes_comma(group: Sequence[Piece]) -> bool:
    """Whether a comma may stand behind the last item of a bracket."""
    kind = group[0].kind
    if kind in ("call", "parameters"):
        return True
    items = _items(group)
    if kind == "list":
        return not any(_in_clause(item) for item, _ in items)
    return kind == "group" and any(comma is not None for _, comma in items)


def _is_single(group: Sequence[Piece]) -> bool:
    """Whether a bracket is a tuple of one, `(a,)`: on one line only there a comma before the closing bracket says something."""
    return group[0].kind == "group" and len(_items(group)) == 1
