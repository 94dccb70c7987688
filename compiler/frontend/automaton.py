"""The LALR automaton that parses a spec, run by the tables that grammar/generate.py makes of the grammar."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dlc.compiler.frontend.word import Word

TABLES = Path(__file__).resolve().parents[2] / "grammar" / "dlspec.json"

Children = list[Any]
"""What was read for a rule, in order: words, and what the methods of a builder made of rules."""


class Rule(NamedTuple):
    """`name` -> `size` symbols.

    `method` makes the result of the children ("" leaves them a list). At the places in `inlined` stand such lists, whose
    elements are children of this rule. `passes`: a single child is the result itself.
    """

    name: str
    size: int
    method: str
    inlined: list[int]
    passes: bool


class Tables(NamedTuple):
    """A grammar, ready to be run.

    `states`: per state and symbol the state to go to, or -1-n for the rule n that has been read; state 0 is the first,
    `end` the last. `signs`: a sign's or keyword's text and its terminal. `shapes`: a terminal and its regular expression.
    """

    states: list[dict[str, int]]
    rules: list[Rule]
    end: int
    signs: dict[str, str]
    shapes: dict[str, str]

    @classmethod
    @cache
    def shipped(cls) -> Tables:
        """The tables of grammar/dlspec.lark."""
        made: Mapping[str, Any] = json.loads(TABLES.read_text(encoding="utf-8"))
        rules = [Rule(*rule) for rule in made["rules"]]
        return cls(made["states"], rules, made["end"], made["signs"], made["shapes"])


class Unexpected(Exception):
    """A word that the grammar does not take where it stands."""


class Automaton:
    """One run over a file's words. Its methods make the nodes: `builder` has one per rule of the grammar."""

    def __init__(self, tables: Tables, builder: object) -> None:
        self._tables = tables
        self._methods: list[Callable[[Children], Any] | None] = [
            getattr(builder, rule.method) if rule.method else None for rule in tables.rules
        ]
        self._states = [0]
        self._values: Children = []

    def feed(self, word: Word) -> Any:
        """Take a word. At the end of the file: what was made of it all.

        Raises Unexpected, the word not taken; and what the builder raises, with the rule it could not make taken away.
        """
        states, values, table = self._states, self._values, self._tables.states
        kind = word.type
        while True:
            step = table[states[-1]].get(kind)
            if step is None:
                raise Unexpected
            if step >= 0:
                states.append(step)
                values.append(word)
                return None
            rule = self._tables.rules[-1 - step]
            children: Children = []
            if rule.size:
                children = values[-rule.size :]
                del states[-rule.size :], values[-rule.size :]
            value = self._made(-1 - step, rule, children)
            states.append(table[states[-1]][rule.name])
            values.append(value)
            if kind == "$END" and states[-1] == self._tables.end:
                return value

    def _made(self, place: int, rule: Rule, children: Children) -> Any:
        if rule.inlined:
            flat: Children = []
            for n, child in enumerate(children):
                if n in rule.inlined:
                    flat += child
                else:
                    flat.append(child)
            children = flat
        if rule.passes and len(children) == 1:
            return children[0]
        method = self._methods[place]
        return method(children) if method else children

    def takes(self, kind: str) -> bool:
        """Whether a word of this terminal may come, as far as the state alone tells."""
        return kind in self._tables.states[self._states[-1]]

    def accepted(self) -> set[str]:
        """The terminals that may really come."""
        return {kind for kind in self._tables.states[self._states[-1]] if kind.isupper() and self._accepts(kind)}

    def _accepts(self, kind: str) -> bool:
        states, table = list(self._states), self._tables.states
        while (step := table[states[-1]].get(kind)) is not None:
            if step >= 0:
                return True
            rule = self._tables.rules[-1 - step]
            if rule.size:
                del states[-rule.size :]
            states.append(table[states[-1]][rule.name])
            if kind == "$END" and states[-1] == self._tables.end:
                return True
        return False

    def drop(self) -> None:
        """Forget what was taken last."""
        self._states.pop()
        self._values.pop()
