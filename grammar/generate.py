"""Makes dlspec.json, the tables of an LALR parser, from dlspec.lark: `make grammar`. A test tells when they are not current.

The tables are shipped, so that a compiler starts without building them, which takes longer than checking any spec.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from lark import Lark
from lark.grammar import Rule
from lark.lexer import PatternStr, TerminalDef
from lark.parsers.lalr_analysis import Shift

GRAMMAR = Path(__file__).with_name("dlspec.lark")
TABLES = Path(__file__).with_name("dlspec.json")

Table = dict[Any, dict[str, tuple[Any, Any]]]
"""What lark makes: per state and symbol (Shift, next state) or (Reduce, rule)."""


def tables(grammar: str) -> str:
    """The tables as JSON text, with the meaning that `dlc.compiler.frontend.automaton.Tables` documents."""
    lark = Lark(grammar, parser="lalr", keep_all_tokens=True, maybe_placeholders=False)
    made = lark.parse_interactive().parser_state.parse_conf
    number = _numbered(made.states, made.start_state)
    places = {rule: place for place, rule in enumerate(lark.rules)}
    states = [
        {
            symbol: number[target] if action is Shift else -1 - places[target]
            for symbol, (action, target) in sorted(made.states[state].items())
        }
        for state in number
    ]
    parts = {
        "signs": [json.dumps(_signs(lark.terminals), sort_keys=True)],
        "shapes": [json.dumps(_shapes(lark.terminals), sort_keys=True)],
        "end": [json.dumps(number[made.end_state])],
        "rules": _lines([_rule(rule) for rule in lark.rules]),
        "states": _lines(states),
    }
    return "{\n" + ",\n".join(f'"{name}": ' + "\n".join(text) for name, text in parts.items()) + "\n}\n"


def _numbered(table: Table, start: Any) -> dict[Any, int]:
    """The states by the order in which they are reached: lark's own numbers differ from run to run."""
    number, reached = {start: 0}, [start]
    for state in reached:
        for _, (action, target) in sorted(table[state].items(), key=lambda entry: entry[0]):
            if action is Shift and target not in number:
                number[target] = len(number)
                reached.append(target)
    return number


def _rule(rule: Rule) -> list[Any]:
    name = rule.alias or rule.origin.name
    inlined = [n for n, symbol in enumerate(rule.expansion) if not symbol.is_term and symbol.name.startswith("_")]
    passes = rule.options.expand1 and not rule.alias
    makes_nothing = name.startswith("_") or (passes and len(rule.expansion) == 1)
    return [rule.origin.name, len(rule.expansion), "" if makes_nothing else name, inlined, passes]


def _signs(terminals: Collection[TerminalDef]) -> dict[str, str]:
    return {t.pattern.value: t.name for t in terminals if isinstance(t.pattern, PatternStr)}


def _shapes(terminals: Collection[TerminalDef]) -> dict[str, str]:
    return {t.name: t.pattern.value for t in terminals if not isinstance(t.pattern, PatternStr)}


def _lines(entries: list[Any]) -> list[str]:
    """A JSON list, one entry a line."""
    texts = [json.dumps(entry, separators=(",", ":")) for entry in entries]
    return ["[", *(f"{text}," for text in texts[:-1]), texts[-1], "]"]


if __name__ == "__main__":
    TABLES.write_text(tables(GRAMMAR.read_text(encoding="utf-8")), encoding="utf-8")
