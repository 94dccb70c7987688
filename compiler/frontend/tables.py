"""The parser of grammar/dlspec.lark: lark's, loaded from the tables that grammar/generate.py made of the grammar."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from lark import Lark, UnexpectedToken
from lark.lexer import PatternStr

from dlc.compiler.frontend.builder import Builder
from dlc.compiler.frontend.word import Word

TABLES = Path(__file__).resolve().parents[2] / "grammar" / "dlspec.json"


class Unexpected(Exception):
    """A word that the grammar does not take where it stands."""


@cache
def shipped() -> Lark:
    """Lark's parser, its rules made into nodes by `Builder`. Built from the grammar it takes 0.3 s, so loaded."""
    made = json.loads(TABLES.read_text(encoding="utf-8"), object_hook=_with_numbers)
    # lark's own stand-alone parsers are loaded by this method; the public `load` would unpickle a file
    parser: Lark = Lark._load_from_dict(made["data"], made["memo"], transformer=Builder())  # type: ignore[no-untyped-call]
    return parser


def _with_numbers(entries: dict[str, Any]) -> dict[Any, Any]:
    """Numbers as keys, which JSON has as text."""
    return {int(key): value for key, value in entries.items()} if all(map(str.isdigit, entries)) else entries


def signs() -> dict[str, str]:
    """The signs and keywords of the grammar: text and terminal."""
    return {t.pattern.value: t.name for t in shipped().terminals if isinstance(t.pattern, PatternStr)}


def shapes() -> dict[str, str]:
    """The other terminals, with their regular expressions."""
    return {t.name: t.pattern.value for t in shipped().terminals if not isinstance(t.pattern, PatternStr)}


class Run:
    """One run of the parser over a file's words, fed one by one."""

    def __init__(self) -> None:
        self._parser = shipped().parse_interactive()

    def feed(self, word: Word) -> Any:
        """Take a word. At the end of the file: what was made of it all.

        Raises Unexpected, the word not taken; and what the builder raises, with the rule it could not make taken away.
        """
        try:
            return self._parser.feed_token(word)  # type: ignore[arg-type]  # lark only reads `type`
        except UnexpectedToken:
            raise Unexpected from None

    def takes(self, kind: str) -> bool:
        """Whether a word of this terminal may come, as far as the state alone tells."""
        return kind in self._parser.choices()  # type: ignore[no-untyped-call]  # lark leaves it untyped

    def accepted(self) -> set[str]:
        """The terminals that may really come."""
        return set(self._parser.accepts())  # type: ignore[no-untyped-call]  # lark leaves it untyped

    def drop(self) -> None:
        """Forget what was taken last."""
        state = self._parser.parser_state
        state.state_stack.pop()
        state.value_stack.pop()
