"""The language reference names everything that a spec can name, and its examples parse."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from dlc.api import vocabulary
from dlc.compiler.frontend.functions import BUILTINS
from dlc.compiler.frontend.imports import MAX_FILES
from dlc.compiler.frontend.layout import MAX_NESTING
from dlc.compiler.frontend.lexer import MAX_CHARACTERS, MAX_DIGITS, MAX_LINE, MAX_TOKENS
from dlc.compiler.frontend.limits import DEFAULT
from dlc.compiler.frontend.parser import MAX_DEPTH, parse
from dlc.compiler.source import SourceFile

REFERENCE = (Path(__file__).resolve().parents[3] / "docs" / "language.md").read_text(encoding="utf-8")


def test_every_layer_loss_and_the_like_is_in_it_with_its_arguments() -> None:
    known = vocabulary()

    missing = []
    for family in fields(known):
        for keyword, kind in getattr(known, family.name).items():
            row = re.findall(rf"^\| `{re.escape(keyword)}(?:\(([^`]*)\))?` \|", REFERENCE, re.M)
            arguments = [f.name.rstrip("_") for f in fields(kind) if f.init]
            if not any(all(re.search(rf"\b{a}\b", r) for a in arguments) for r in row):
                missing.append(f"{family.name}: {keyword}({', '.join(arguments)})")

    assert not missing


def test_every_built_in_function_is_in_it() -> None:
    assert not [name for name in BUILTINS if f"`{name}(" not in REFERENCE]


def test_its_limits_are_the_limits() -> None:
    limits = [MAX_CHARACTERS, MAX_TOKENS, MAX_LINE, MAX_NESTING, MAX_DEPTH, MAX_DIGITS, MAX_FILES]
    limits += [getattr(DEFAULT, f.name) for f in fields(DEFAULT)]
    table = REFERENCE[REFERENCE.index("## Limits") :]

    assert not [n for n in limits if not re.search(rf"(?<![\d,]){n:,}(?![\d,])", table)]


def test_its_examples_parse() -> None:
    examples = [e for e in re.findall(r"```\n(.*?)```", REFERENCE, re.S) if "statements" not in e]

    assert len(examples) >= 3
    for example in examples:
        parse(SourceFile("example", example))
