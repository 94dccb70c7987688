"""The grammar takes the whole language, quickly, whatever it is fed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lark import Token

from dlc.compiler.errors import DlcError
from dlc.compiler.frontend import ast
from dlc.compiler.frontend.dump import dump
from dlc.compiler.frontend.parser import parse, parse_words
from dlc.compiler.frontend.tables import Run
from dlc.compiler.source import SourceFile
from dlc.grammar.generate import GRAMMAR, TABLES, make

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
SPECS = sorted((GOLDEN / "parse").glob("*.dlspec"))


def _parse(text: str) -> ast.File:
    return parse(SourceFile("spec", text))


def _value(text: str) -> ast.Expression:
    block = _parse(f"block X = {text}").items[0]
    assert isinstance(block, ast.Block) and not isinstance(block.body, ast.Body)
    return block.body


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_the_tree_of_a_spec(path: Path, golden: Callable[[str, str], None]) -> None:
    golden(dump(_parse(path.read_text(encoding="utf-8"))), f"parse/{path.stem}.txt")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("-a ** 2", "-(a ** 2)"),
        ("a ** b ** c", "a ** (b ** c)"),
        ("2 ** -1", "2 ** (-1)"),
        ("not a == b and c or d", "((not (a == b)) and c) or d"),
        ("0..n + 1", "0..(n + 1)"),
        ("a -> b + c -> d", "a -> (b + c) -> d"),
        ("a if b else c -> d", "a if b else (c -> d)"),
        ("a -> b if c else d", "(a -> b) if c else d"),
        ("a if b else c if d else e", "a if b else (c if d else e)"),
        ("i => a -> b", "i => (a -> b)"),
        ("x: a + b -> c", "x: (a + b) -> c"),
        ("10%3", "10 % 3"),
        ("f(1, 2,)", "f(1, 2)"),
        ("(i) => i", "i => i"),
        ("f(\n a\n ->\n b\n)", "f(a -> b)"),
    ],
)
def test_what_binds_tighter(text: str, same: str) -> None:
    assert _value(text) == _value(same)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("3", 3, ""),
        ("61_706", 61_706, ""),
        ("5e-4", 5e-4, ""),
        ("0.25", 0.25, ""),
        ("10%", 10, "%"),
        ("10deg", 10, "deg"),
        ("1 epoch", 1, "epoch"),
        ("2.5 epochs", 2.5, "epoch"),
        ("500 steps", 500, "step"),
        ("2GB", 2, "GB"),
    ],
)
def test_numbers_and_units(text: str, value: float, unit: str) -> None:
    number = _value(text)

    assert number == ast.Number(value, unit, span=number.span)
    assert isinstance(number, ast.Number) and type(number.value) is type(value)


def test_words_are_keywords_only_where_the_grammar_takes_them() -> None:
    file = _parse(
        "block Stage(block, model, data = 1) {\n"
        "    input = block(model)\n    output = input -> train -> then\n    expect.x -> data\n    from: epoch\n}\n"
    )

    assert isinstance(file.items[0], ast.Block)
    assert isinstance(file.items[0].body, ast.Body) and len(file.items[0].body.statements) == 4


def test_a_statement_ends_with_its_line_unless_it_goes_on() -> None:
    one = _parse(
        "block X {\n    a = f(\n        1,\n        2)\n    in\n\n        # why\n        -> a\n        -> b\n}\n"
    )
    other = _parse("block X {a = f(1, 2)\nin -> a -> b}")

    assert one == other


def test_line_ends_and_tabs_of_other_systems_are_spaces() -> None:
    assert _parse("block X =\r\n\trelu\r\n") == _parse("block X = relu")


def test_spans_cover_what_was_written() -> None:
    chain = _value("(a -> c1: conv(3, kernel = 5)) -> d[0].e")
    assert isinstance(chain, ast.Chain)
    first, second = chain.stages

    assert chain.span.text == "(a -> c1: conv(3, kernel = 5)) -> d[0].e"
    assert first.span.text == "(a -> c1: conv(3, kernel = 5))"
    assert second.span.text == "d[0].e"
    assert isinstance(first, ast.Chain) and first.stages[1].span.text == "c1: conv(3, kernel = 5)"


LONG = {
    "brackets on one line": "block A = " + "(" * 10_000 + "x" + ")" * 10_000,
    "brackets on many lines": "block A = " + "(\n" * 10_000 + "x" + ")\n" * 10_000,
    "brackets that are not closed": "block A = " + "[" * 9_000,
    "braces": "model A " + "{\n" * 10_000,
    "a chain on one line": "block A {\nin" + " -> relu" * 10_000 + "\n}",
    "a chain on many lines": "block A {\nin" + "\n -> relu" * 10_000 + "\n}",
    "a line of a megabyte": "block A = " + "a" * 1_000_000,
    "two lines of half a megabyte": ("block A = " + "a" * 490_000 + "\n") * 2,
    "a long sum": "block A = 1" + " + 1" * 2_000,
    "many signs": "block A = " + "-" * 9_000 + "x",
    "many nots": "block A = " + "not " * 2_000 + "x",
    "many lambdas": "block A = " + "i => " * 1_900 + "x",
    "many choices": "block A = " + "x if y else " * 800 + "x",
    "many powers": "block A = " + "2**" * 3_000 + "x",
    "many calls": "block A = f" + "()" * 4_000,
    "many attributes": "block A = f" + ".a" * 4_000,
    "many lines outside": "foo bar\n" * 10_000,
    "many open brackets": ("model A {\n" + "a = f(\n" * 9 + "}\n") * 500,
    "many closing braces": "model A {\n" + "foo bar baz ] }\n" * 5_000,
    "many missing braces": "model A {\n x = 3\n" * 3_000,
    "many mistakes": "model A {\n" + " x = \n" * 10_000 + "}",
    "many unknown signs": "@ $\n" * 10_000,
    "zeros": "\0" * 30_000,
    "one long string": 'import "' + "a\\" * 4_000,
    "many definitions": "block A = x\n" * 11_000,
    "digits": "block A = " + "9" * 9_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
def test_a_bomb_is_parsed_or_refused_within_seconds(text: str) -> None:
    start = time.process_time()

    try:
        _parse(text)
    except DlcError as error:
        assert len(error.diagnostics) <= 101

    assert time.process_time() - start < 3  # well under one when nothing else runs


@pytest.mark.parametrize("seed", range(40))
def test_a_broken_spec_gives_diagnostics_and_nothing_worse(seed: int) -> None:
    text = next(p for p in SPECS if p.stem == "recipe").read_text(encoding="utf-8")
    place = seed * len(text) // 40
    for broken in (
        text[:place],
        text[place:],
        text[:place] + text[place + 1 :],
        text[:place] + "({[)}]"[seed % 6] + text[place:],
    ):
        try:
            _parse(broken)
        except DlcError as error:
            assert error.diagnostics
            assert all(re.fullmatch(r"E01\d\d", d.code) and d.message for d in error.diagnostics)


def test_the_tables_are_those_of_the_grammar() -> None:
    """Lark numbers its states differently from run to run, so the grammar in the tables tells whether they are current."""
    kept = json.loads(TABLES.read_text(encoding="utf-8"))

    assert kept["grammar"] == GRAMMAR.read_text(encoding="utf-8"), "run `make grammar`"


def test_the_loaded_parser_accepts_what_a_new_one_does() -> None:
    text = (GOLDEN / "parse" / "everything.dlspec").read_text(encoding="utf-8")
    words = parse_words(SourceFile("everything.dlspec", text))[1].tokens
    loaded, made = Run(), make(GRAMMAR.read_text(encoding="utf-8")).parse_interactive()

    for word in words[:-1]:
        assert loaded.accepted() == set(made.accepts()), word.span

        loaded.feed(word)
        made.feed_token(Token(word.type, str(word)))


def test_the_editor_grammar_knows_the_words_of_the_language() -> None:
    text = GRAMMAR.with_name("dlspec.tmLanguage.json").read_text(encoding="utf-8")
    patterns = json.loads(text)
    words = set(re.findall(r'"([a-z]+)"', GRAMMAR.read_text(encoding="utf-8")))

    assert patterns["scopeName"] == "source.dlspec"
    assert not {w for w in words if not re.search(rf"\b{w}\b", text)}


def test_no_layer_is_named_in_the_grammar() -> None:
    text = re.sub(r"//.*", "", GRAMMAR.read_text(encoding="utf-8"))

    assert not re.search(r"conv|relu|linear\b|pool|norm|sgd|fork|residual|repeat", text)
