"""How far apart two tokens stand on one line, and which brackets are calls, lists and the like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dlc.compiler.frontend.word import Word

_VALUE_ENDS = {"NAME", "NUMBER", "STRING", "UNIT", "TRUE", "FALSE", "IN", "RPAR", "RSQB"}
_TIGHT_BEFORE = {"COMMA", "RPAR", "RSQB", "COLON", "DOT", "RANGE", "POWER"}
_TIGHT_AFTER = {"LPAR", "LSQB", "DOT", "RANGE", "POWER"}


@dataclass(frozen=True)
class Context:
    """What a statement is, as far as spaces depend on it."""

    definition: bool = False  # a header: its first parentheses hold parameters
    setting: bool = False  # a line of a data or train section


@dataclass
class _Bracket:
    kind: str
    comprehends: bool = False


@dataclass
class Spacing:
    """Goes through a statement's tokens in order. `kinds` says what each opening bracket opens, by its place in the file."""

    context: Context
    kinds: dict[int, str] = field(default_factory=dict)
    _stack: list[_Bracket] = field(default_factory=list)
    _before: Word | None = None
    _seen: int = 0
    _unary: bool = False
    _value: bool = False  # whether the token before ends a value
    _pattern: bool = False
    _comprehends: bool = False

    def of(self, words: Sequence[Word]) -> list[bool]:
        """For each token whether a space stands before it."""
        return [self._next(word) for word in words]

    def _next(self, word: Word) -> bool:
        space = self._before is not None and self._apart(self._before, word)
        self._enter(word)
        return space

    def _apart(self, before: Word, word: Word) -> bool:
        kind = word.type
        if self._pattern:
            return before.type == "FOR" or kind not in ("COMMA", "DOT", "STAR", "RANGE", "POWER", "NAME", "NUMBER")
        if self.context.setting and self._seen == 1:
            return True
        if self.context.setting and not self._stack and "MINUS" in (kind, before.type) and before.end == word.start:
            return False  # `fashion-mnist`
        if kind in _TIGHT_BEFORE or before.type in _TIGHT_AFTER or self._unary:
            return False
        if "EQUAL" in (kind, before.type):
            inside = self._stack[-1].kind if self._stack else ""
            return inside == "parameters" or (not inside and not self.context.setting)
        if kind in ("LPAR", "LSQB"):
            return not self._value
        if kind == "UNIT":
            return word.startswith(("epoch", "step"))
        return True

    def _enter(self, word: Word) -> None:
        kind, ends_value = word.type, word.type in _VALUE_ENDS
        self._unary = kind in ("MINUS", "PLUS") and not self._value
        if kind in ("LPAR", "LSQB"):
            self.kinds[word.start] = self._opened(kind)
            self._stack.append(_Bracket(self.kinds[word.start]))
        elif kind in ("RPAR", "RSQB"):
            self._stack.pop()
        elif kind == "FOR" and self._stack:
            self._stack[-1].comprehends = True
        elif kind == "IN" and self._stack and self._stack[-1].comprehends:
            self._stack[-1].comprehends = ends_value = False
        elif kind == "FOR":
            self._pattern = True
        elif kind == "COMMA" and not self._stack:
            self._pattern = False
        if self.context.setting and self._seen == 0:
            ends_value = False
        self._before, self._value = word, ends_value
        self._seen += 1

    def _opened(self, kind: str) -> str:
        if self.context.definition and not self._stack and self._seen == 2 and kind == "LPAR":
            return "parameters"
        if self._value:
            return "call" if kind == "LPAR" else "index"
        return "group" if kind == "LPAR" else "list"
