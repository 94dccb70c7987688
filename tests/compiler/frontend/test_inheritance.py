"""Sections that extend others: what is inherited, from where, and what overrides do to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.api import vocabulary
from dlc.compiler.frontend import Checked, check
from dlc.compiler.frontend.parser import parse
from dlc.compiler.source import SourceFile

BASE = """
import "digits.dlspec"

model Net(classes: int = 10) {
    input image: [1, 28, 28]
    image -> fc: linear(classes) -> output logits
}

train Base {
    model      Net
    data       digits
    loss       cross_entropy
    optimizer  sgd(lr=0.1), adam for fc.bias
    regularize l2(1e-3)
    batch      16
    epochs     3
}
"""
DIGITS = "data digits { source mnist-mini }\n"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "base.dlspec").write_text(BASE.replace("image -> fc", "image -> flatten -> fc"))
    (tmp_path / "digits.dlspec").write_text(DIGITS)
    return tmp_path / "main.dlspec"


def _checked(spec: Path, text: str, *settings: str) -> Checked:
    spec.write_text(text)
    return check(spec, vocabulary(), settings)


def test_settings_are_inherited_unless_they_are_set(spec: Path) -> None:
    text = 'import "base.dlspec" as b\ntrain Fast extends b.Base {\n    optimizer sgd(lr=1)\n    steps 5\n}\n'

    made = _checked(spec, text).recipes["Fast"]

    assert (made.name, made.batch, made.epochs, made.steps) == ("Fast", 16, None, 5)
    assert [(g.optimizer.lr, g.pattern) for g in made.optimizers] == [(1, None)]
    assert [r.rate for r in made.regularizers] == [1e-3]
    assert made.settings["regularize"] == "l2(1e-3)" and "epochs" not in made.settings


def test_names_mean_what_they_mean_in_their_own_file(spec: Path) -> None:
    text = """
import "base.dlspec" as b

model Net {
    input image: [1, 28, 28]
    image -> flatten -> linear(5) -> linear(10) -> output logits
}

data digits {
    source   mnist-mini
    validate 10%
}

train Theirs extends b.Base { batch 8 }
train Ours extends b.Base {
    model     Net
    data      digits
    optimizer sgd
}
"""

    made = _checked(spec, text).recipes

    assert (len(made["Theirs"].network.calls), made["Theirs"].data.validate) == (2, 0.0)
    assert (len(made["Ours"].network.calls), made["Ours"].data.validate) == (3, 0.1)


def test_sections_of_a_plain_import_and_of_the_file_itself_are_extended_in_any_order(spec: Path) -> None:
    text = """
import "base.dlspec"
train C extends B { seed 3 }
train B extends Base { batch 8 }
data more extends digits { validate 10% }
data digits { source mnist }
"""

    found = _checked(spec, text)

    assert list(found.recipes) == ["C", "B"]
    assert [(r.batch, r.seed, r.data.source.keyword) for r in found.recipes.values()] == [
        (8, 3, "mnist-mini"),
        (8, 0, "mnist-mini"),
    ]


def test_overrides_reach_what_is_inherited(spec: Path) -> None:
    text = 'import "base.dlspec" as b\ntrain Fast extends b.Base {\n    batch 4\n}\n'

    made = _checked(spec, text, "data.validate=20%", "train.epochs=7", "train.regularize=l1(1)", "train.Fast.batch=2")

    recipe = made.recipes["Fast"]
    assert (recipe.data.validate, recipe.epochs, recipe.batch, [r.rate for r in recipe.regularizers]) == (
        0.2,
        7,
        2,
        [1],
    )


def test_an_inherited_setting_keeps_its_place_in_its_file(spec: Path) -> None:
    made = _checked(spec, 'import "base.dlspec" as b\ntrain Fast extends b.Base {}\n').recipes["Fast"]

    assert made.losses[0].span is not None and made.losses[0].span.file.name.endswith("base.dlspec")


def test_extends_is_a_word_only_where_it_stands() -> None:
    tree = parse(SourceFile("spec", "train extends extends extends { extends 1 }\n"))

    (section,) = tree.items
    assert section.name.name == "extends" and section.base.name == "extends"  # type: ignore[union-attr]  # a Section
