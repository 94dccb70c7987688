"""Data that a recipe cannot use, and places it cannot write to, are faults before anything is compiled or replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.api import recipe_of, train
from dlc.compiler.errors import DlcError
from dlc.data import load_data
from dlc.runtime.errors import RuntimeFault

SPEC = """
model M {
    input image: [1, 28, 28]
    image -> flatten -> linear(10) -> output y
}
data digits {
    source mnist-mini
    augment shift(1) -> crop(20)
}
train T {
    model M
    data digits
    loss cross_entropy
    optimizer sgd(lr=0.1)
    batch 50
    epochs 1
}
"""


def test_a_crop_of_another_size_stops_before_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    spec, out = tmp_path / "s.dlspec", tmp_path / "run"
    spec.write_text(SPEC)
    out.mkdir()
    (out / "best.safetensors").write_bytes(b"an earlier run's")

    with pytest.raises(DlcError, match=r"makes images of 20x20, but M takes \[1, 28, 28\]"):
        train(spec, out=out)

    assert (out / "best.safetensors").read_bytes() == b"an earlier run's"


def test_a_place_that_cannot_be_written_to_stops_before_compiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, out = tmp_path / "s.dlspec", tmp_path / "file"
    spec.write_text(SPEC.replace("crop(20)", "crop(28)"))
    out.write_bytes(b"")
    monkeypatch.setattr("dlc.training.TrainingSession", lambda *_, **__: pytest.fail("compiled"))

    with pytest.raises(RuntimeFault, match="R0110"):
        train(spec, out=out)


def test_weights_to_start_from_are_read_before_compiling_and_not_again_when_a_run_goes_on(tmp_path: Path) -> None:
    spec, out, weights = tmp_path / "s.dlspec", tmp_path / "run", tmp_path / "start.safetensors"
    recipe = SPEC.replace("crop(20)", "crop(28)").replace("epochs 1", f'epochs 1\n    init from "{weights}" else he')
    spec.write_text(recipe)

    with pytest.raises(RuntimeFault, match="R0101"):
        train(spec, out=out)

    assert not out.exists()
    spec.write_text(SPEC.replace("crop(20)", "crop(28)"))
    (train(spec, out=tmp_path / "first").out / "best.safetensors").rename(weights)
    spec.write_text(recipe)
    began = train(spec, out=out)
    weights.unlink()
    again = train(spec, out=out, resume=True)

    assert began.history == again.history


def test_a_crop_of_the_images_size_is_taken(tmp_path: Path) -> None:
    spec = tmp_path / "s.dlspec"
    spec.write_text(SPEC.replace("crop(20)", "crop(28, pad=2)"))

    assert load_data(recipe_of(spec), None).train.images.shape == (6000, 1, 28, 28)
