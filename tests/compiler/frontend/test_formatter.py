"""Formatting keeps the meaning and the comments, and changes nothing the second time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.lark import from_lark
from lark import Lark

from dlc.compiler.errors import DlcError
from dlc.compiler.frontend.formatter import format_source
from dlc.compiler.frontend.imports import LIBRARY
from dlc.compiler.frontend.parser import parse, parse_words
from dlc.compiler.source import SourceFile
from dlc.grammar.generate import GRAMMAR

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "format"
FORMATTED = sorted((FOLDER / "unchanged").glob("*.dlspec"))

QUICK = settings(deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
SHIPPED = sorted(LIBRARY.rglob("*.dlspec"))
WORDS = st.sampled_from([" x", " y", " conv", " block", " model", " data", " features"])
SIGNS = {
    "NAME": WORDS,
    "NUMBER": st.sampled_from([" 0", " 3", " 61_706", " 5e-4", " 0.5"]),
    "STRING": st.sampled_from([' "a"', ' "b # \\" c"']),
    "UNIT": st.sampled_from(["deg", " epoch", "GB", " steps"]),
    "NEWLINE": st.sampled_from(["\n", "\n\n\n", "  # end\n", "\n  # own\n", " # end\n\n# own\n"]),
    "LPAR": st.sampled_from(["(", " (", "(\n", "( # open\n", "(\n# own\n"]),
    "LSQB": st.sampled_from(["[", "[\n"]),
    "RPAR": st.sampled_from([")", "\n)", "\n# own\n)"]),
    "COMMA": st.sampled_from([",", " , ", ",\n", ", # item\n"]),
    "ARROW": st.sampled_from(["->", "\n ->", " # stage\n  ->", "\n # own\n\n->"]),
    "LBRACE": st.sampled_from(["{", "{\n", "\n{ # open\n"]),
    "RBRACE": st.sampled_from(["}", "\n}", "\n# own\n}"]),
    "BAD": st.nothing(),
    "COMMENT": st.just(""),
    "SPACE": st.sampled_from([" ", "   "]),
}


def _spec(start: str) -> st.SearchStrategy[str]:
    grammar = Lark(GRAMMAR.read_text(encoding="utf-8"), parser="lalr", start=["start", start])
    terminals, rules, _ = grammar.grammar.compile([start], ())
    used = {t.name for t in terminals} | {symbol.name for rule in rules for symbol in rule.expansion}
    words = {t.name: st.just(" " + t.pattern.value) for t in terminals if t.pattern.type == "str"}
    return from_lark(grammar, start=start, explicit={n: s for n, s in {**words, **SIGNS}.items() if n in used})


SPECS = st.one_of(
    _spec("start"),
    _spec("body").map("model X".__add__),
    _spec("body").map("block X ".__add__),
    _spec("section"),
    _spec("expression").map("block X = ".__add__),
    st.lists(_spec("expression"), min_size=2, max_size=3).map(lambda e: "block X = f(" + ",\n".join(e) + ")"),
)


def _format(text: str) -> str:
    return format_source(SourceFile("spec", text))


def _comments(text: str) -> list[str]:
    return sorted(str(c).rstrip() for c in parse_words(SourceFile("spec", text))[1].comments)


def _check(text: str) -> None:
    """Formatting keeps the tree and the comments, and changes nothing the second time."""
    tree = parse(SourceFile("spec", text))

    formatted = _format(text)

    assert parse(SourceFile("spec", formatted)) == tree
    assert _comments(formatted) == _comments(text)
    assert _format(formatted) == formatted


@settings(QUICK, max_examples=20)
@given(SPECS)
def test_whatever_the_grammar_makes_keeps_its_meaning(text: str) -> None:
    try:
        parse(SourceFile("spec", text))
    except DlcError:
        assume(False)

    _check(text)


@st.composite
def _scrambled(draw: st.DrawFn, path: Path) -> str:
    """A spec with other spaces, line ends and comments between its tokens."""
    source = SourceFile(path.name, path.read_text(encoding="utf-8"))
    words = parse_words(source)[1].tokens
    comment = st.sampled_from([" # a\n", "# b\n    # c\n", "\n\n# d\n", "\n # e\n\n"])
    text, depth, end = "", 0, 0
    for before, word in pairwise(words):
        text += "" if before.type == "NEWLINE" else before
        end = before.end
        gap = source.text[end : word.start]
        depth += (before.type in ("LPAR", "LSQB")) - (word.type in ("RPAR", "RSQB"))
        if word.type == "$END":
            break
        if "NEWLINE" in (before.type, word.type):
            text += (
                "\n" + draw(st.sampled_from(["", "", "\n", "  # end\n", "# own\n"])) if word.type == "NEWLINE" else "  "
            )
        elif word.type in ("UNIT", "DOT") or before.type == "DOT" or "MINUS" in (before.type, word.type):
            text += gap
        elif depth or word.type == "ARROW" or before.type == "LBRACE" or word.type == "RBRACE":
            free = st.sampled_from([gap or "", " ", "\n  ", "\n\n      ", "  "])
            text += draw(st.one_of(free, free, free, comment)) or ""
        else:
            text += draw(st.sampled_from([" ", "   "])) if gap else draw(st.sampled_from(["", "", " "]))
    return text


@pytest.mark.parametrize("path", FORMATTED, ids=lambda p: p.stem)
def test_a_scrambled_spec_keeps_its_meaning(path: Path) -> None:
    @settings(QUICK, max_examples=25)
    @given(_scrambled(path))
    def check(text: str) -> None:
        try:
            parse(SourceFile("spec", text))
        except DlcError:
            assume(False)
        _check(text)

    check()


@pytest.mark.parametrize("path", [*FORMATTED, *SHIPPED], ids=lambda p: p.stem)
def test_a_well_written_spec_stays_as_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert _format(text) == text


def test_an_untidy_spec_is_put_in_order(golden: Callable[[str, str], None]) -> None:
    golden(_format((FOLDER / "untidy.dlspec").read_text(encoding="utf-8")), "format/untidy.txt")


@pytest.mark.parametrize(
    ("written", "formatted"),
    [
        ("", ""),
        ("\n\n\n", ""),
        ("# only this", "# only this\n"),
        ("block A=relu\n\n\n\nblock B=relu", "block A = relu\n\nblock B = relu\n"),
        ("block A = relu\nblock B = relu\n", "block A = relu\nblock B = relu\n"),
        ("model A=B(  ){expect params=3}", "model A = B() { expect params = 3 }\n"),
        ("block A = conv(3,)", "block A = conv(3)\n"),
        ("block A = (3 ,)", "block A = (3,)\n"),
        ("block A = f(x=-1, y=- 2**-3)", "block A = f(x=-1, y=-2**-3)\n"),
        ("block A = [f(i) for i in(1,2) if not(i)]", "block A = [f(i) for i in (1, 2) if not (i)]\n"),
        ("block A = in [0] .shape [ 1 ]", "block A = in[0].shape[1]\n"),
        ("block A = 10%3 + 10 % 3", "block A = 10 % 3 + 10 % 3\n"),
        ("data d { source fashion-mnist }", "data d { source fashion-mnist }\n"),
        ("data d {\n}", "data d {}\n"),
        ("train  A  extends b.C{epochs 2}", "train A extends b.C { epochs 2 }\n"),
        ("\tblock A =\n\t\trelu", "block A =\n    relu\n"),
        ("block A = relu # why", "block A = relu  # why\n"),
    ],
)
def test_small_things_are_written_in_one_way(written: str, formatted: str) -> None:
    assert _format(written) == formatted


def test_a_wrong_file_is_not_formatted() -> None:
    with pytest.raises(DlcError):
        _format("block A = \n")
