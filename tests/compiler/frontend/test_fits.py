"""Data and network that are not for one another are mistakes before anything is read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dlc.compiler.errors import DlcError
from dlc.compiler.frontend import Checked

SPEC = """
model Net {{
    input image: {shape}
    image -> flatten -> linear({classes}) -> output y
}}

data pictures {{
    source {source}
    {more}
}}

train T {{
    model     Net
    data      pictures
    loss      cross_entropy
    optimizer sgd(lr=0.1)
    epochs    1
}}
"""


def spec(shape: str = "[1, 28, 28]", source: str = "mnist", more: str = "", classes: int = 10) -> str:
    return SPEC.format(shape=shape, source=source, more=more, classes=classes)


@pytest.mark.parametrize(
    ("text", "said", "advice"),
    [
        (spec("[3, 28, 28]"), "has images of 1 channel, but Net takes [3, 28, 28]", "`[1, 28, 28]`"),
        (spec("[1, 32, 32]", "cifar10"), "has images of 3 channels, but Net takes [1, 32, 32]", "`[3, 32, 32]`"),
        (spec("[1, 32, 32]", "fashion-mnist"), "has images of 28x28, but Net takes [1, 32, 32]", "write `resize 32`"),
        (spec("[1, 32, 24]"), "has images of 28x28", "write `resize (32, 24)`"),
        (spec("[1, 28, 28]", more="resize 32"), "is resized to 32x32", "write `resize 28`"),
        (spec("[3, 32, 32]", "folder(size=64, channels=3)"), "has images of 64x64", "write `resize 32`"),
        (spec("[3, 32, 32]", "folder(channels=1)"), "has images of 1 channel", "`[1, 32, 32]`"),
        (spec("[1, 24, 24]", more="resize 32\n    augment crop(20)"), "makes images of 20x20", "crop to 24"),
        (spec(more="augment crop(40)"), "crop(40) does not fit into images of 28x28", ""),
        (spec("[784]"), "has images, but Net takes [784]", "flatten"),
        (spec(classes=9), "output `y` has 9 scores, but data `pictures` has 10 classes", "10 classes"),
        (spec("[3, 32, 32]", "cifar100"), "has 100 classes", "100 classes"),
        (spec("[3, 32, 32]", "npz", "normalize mean=[0.1, 0.2], std=[1, 1]"), "has 2 means", ""),
    ],
)
def test_what_does_not_fit_is_one_mistake_with_advice(
    text: str, said: str, advice: str, checked: Callable[..., Checked]
) -> None:
    with pytest.raises(DlcError) as caught:
        checked(text)

    (mistake,) = caught.value.diagnostics
    assert mistake.code == "E0815" and said in mistake.message and advice in mistake.help


@pytest.mark.parametrize(
    "text",
    [
        spec(),
        spec("[1, 32, 32]", more="resize 32"),
        spec("[1, 24, 24]", more="resize 32\n    augment shift(2) -> crop(24) -> flip"),
        spec("[3, 32, 32]", "cifar10", "augment crop(32, pad=4)"),
        spec("[5, 9, 9]", "npz"),
        spec("[3, 9, 9]", "folder"),
        spec(classes=12),
    ],
)
def test_what_fits_or_is_not_known_passes(text: str, checked: Callable[..., Checked]) -> None:
    assert list(checked(text).recipes) == ["T"]


def test_no_data_and_no_numpy_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "net.dlspec"
    path.write_text(spec("[1, 24, 24]", more="resize 32\n    augment crop(24)"), encoding="utf-8")
    program = "import sys; from dlc import api; api.check(sys.argv[1]); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
