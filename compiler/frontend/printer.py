"""Prints one statement over as many lines as it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dlc.compiler.frontend.word import Word

WIDTH = 100
INDENT = 4
_HEAD = 12  # a chain's lines stand under its first arrow if that is no further in


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
        arrows = indent + INDENT
        first_arrow = True
        index = 0
        while index < len(pieces):
            piece = pieces[index]
            end = _closing(pieces, index) if piece.kind else index
            if piece.word.type == "ARROW":
                stage = _until_arrow(pieces, index + 1)
                wide = self._column + piece.width + _width(pieces[index + 1 : stage]) > WIDTH
                on_line = bool(self.lines[-1].code.strip())
                if index and on_line and (piece.broken or wide or piece.leading or self.lines[-1].comments):
                    self._new_line(piece, arrows)
                elif first_arrow and self._column + 1 - indent <= _HEAD:
                    arrows = self._column + 1
                first_arrow = False
            elif index and (piece.leading or self.lines[-1].comments):
                self._new_line(piece, deeper)
            elif statement and piece.broken and index and pieces[index - 1].word.type == "EQUAL":
                self._new_line(piece, deeper)
                indent, arrows = deeper, deeper + INDENT
            if end > index and self._explodes(pieces[index : end + 1]):
                self._exploded(pieces[index : end + 1])
            else:
                for inner in pieces[index : end + 1]:
                    if not _is_spare_comma(inner, pieces, index, end):
                        self._put(inner)
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
        return group[1].broken or self._column + _width(group) > WIDTH

    def _exploded(self, group: Sequence[Piece]) -> None:
        opener, closer = group[0], group[-1]
        base = len(self.lines[-1].code) - len(self.lines[-1].code.lstrip())
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
            self.lines[-1].comments += [*held, *(comma.trailing if comma else [])]
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
    while index < len(pieces) and pieces[index].word.type != "ARROW":
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


def _is_spare_comma(piece: Piece, pieces: Sequence[Piece], start: int, end: int) -> bool:
    """A comma in front of a closing bracket says nothing on one line, but for `(a,)`."""
    if piece.word.type != "COMMA":
        return False
    index = next(n for n in range(start, end + 1) if pieces[n] is piece)
    if index + 1 >= len(pieces) or pieces[index + 1].word.type not in ("RPAR", "RSQB"):
        return False
    opener = next(n for n in range(start, index) if pieces[n].kind and _closing(pieces, n) == index + 1)
    return not (pieces[opener].kind == "group" and len(_items(pieces[opener : index + 2])) == 1)
