"""Makes dlspec.json, lark's parser for dlspec.lark in serialised form: `make grammar`. A test tells when it is not current.

It is shipped, because making it from the grammar takes longer than checking any spec.
"""

from __future__ import annotations

import json
from pathlib import Path

from lark import Lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

GRAMMAR = Path(__file__).with_name("dlspec.lark")
TABLES = Path(__file__).with_name("dlspec.json")


def make(grammar: str) -> Lark:
    """Lark's LALR parser for the text of a grammar."""
    return Lark(grammar, parser="lalr", keep_all_tokens=True, maybe_placeholders=False)


def tables(grammar: str) -> str:
    """The parser as JSON text, with the grammar that it was made from."""
    data, memo = make(grammar).memo_serialize([TerminalDef, Rule])
    return json.dumps({"grammar": grammar, "data": data, "memo": memo}, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    TABLES.write_text(tables(GRAMMAR.read_text(encoding="utf-8")), encoding="utf-8")
