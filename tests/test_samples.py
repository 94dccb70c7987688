"""`dlc data`: what a recipe's data is, in words and as a sheet of pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dlc.cli import program
from dlc.runtime.errors import RuntimeFault
from dlc.samples import look

SPEC = """
model M {
    input image: [1, 24, 24]
    image -> flatten -> linear(10) -> output y
}
data digits {
    source mnist-mini
    validate 10%
    augment shift(2) -> crop(24) -> cutout(6)
}
train T {
    model M
    data digits
    loss cross_entropy
    optimizer sgd(lr=0.1)
    epochs 1
}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "s.dlspec"
    path.write_text(SPEC)
    return path


def test_the_data_of_a_recipe_is_told(spec: Path) -> None:
    result = CliRunner().invoke(program, ["data", str(spec), "--json"], catch_exceptions=False)
    facts = json.loads(result.output.splitlines()[-1])

    assert facts["shape"] == [1, 24, 24] and facts["source"] == "mnist-mini" and facts["picture"] is None
    assert [(p["name"], p["samples"]) for p in facts["parts"]] == [
        ("training", 5400),
        ("validation", 600),
        ("test", 1000),
    ]
    assert "training    5,400 samples, 540 of a class" in result.output


def test_a_sheet_shows_ten_classes_as_they_are_and_augmented(spec: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        look(spec, picture=tmp_path / name)
    canvas = np.asarray(Image.open(tmp_path / "a.png"))

    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    # ten columns of the wider pictures; a row of 28, five of 24, each pixel drawn as two by two, white lines between them
    assert canvas.shape == (56 + 5 * 48 + 7 * 2, 10 * 58 + 2)
    assert (canvas[0] == 255).all() and (canvas[2:58, 2:58] < 255).any()


def test_a_picture_is_a_png(spec: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault, match=r"R0110.*no PNG"):
        look(spec, picture=tmp_path / "a.jpg")
