"""Networks that are known from an earlier compilation: the same artifact, and every change of what they came from is seen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import dlc
from dlc import api
from dlc.compiler.codegen.cache import Cache
from dlc.recall import recall

BLOCK = "block Unit(channels) = conv(channels, 3) -> relu\n"
MODEL = """import "unit.dlspec"

model Net(classes: int = 3) {
    input image: [1, 8, 8]
    x = image -> stem: Unit(4)
    x -> flatten -> aux: linear(classes) -> output aux when training
    x -> flatten -> fc: linear(classes) -> output logits
}
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "unit.dlspec").write_text(BLOCK)
    path = tmp_path / "net.dlspec"
    path.write_text(MODEL)
    return path


@pytest.fixture
def cache(tmp_path: Path, spec: Path) -> Cache:
    return Cache(tmp_path / "cache" / "dlc" / "compiled")


def compiled(spec: Path, **options: Any) -> bytes:
    out = spec.with_name("model.dlc")
    api.compile_to_file(spec, out, **options)
    return out.read_bytes()


def test_a_network_that_is_known_gives_the_same_artifact_without_being_checked(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compiled(spec)
    monkeypatch.setattr(api, "check", lambda *_: pytest.fail("it is checked again"))

    assert compiled(spec) == first


def test_weights_that_only_training_has_are_left_as_they_are_without_the_cache(spec: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    arrays = api.fresh_weights(api.one_network(spec), seed=7)
    assert "aux.weight" in arrays
    save_file(arrays, weights)
    first = compiled(spec, weights=weights)

    assert compiled(spec, weights=weights) == first
    assert compiled(spec, weights=weights, cache=False) == first
    save_file({**arrays, "surplus": np.zeros(3, np.float32)}, weights)
    with pytest.raises(dlc.RuntimeFault, match="surplus"):
        compiled(spec, weights=weights)


CHANGES: dict[str, Callable[[Path], object]] = {
    "the spec": lambda spec: spec.write_text(MODEL.replace("= 3", "= 4")),
    "what it imports": lambda spec: spec.with_name("unit.dlspec").write_text(BLOCK.replace("relu", "tanh")),
    "what it imports is gone": lambda spec: spec.with_name("unit.dlspec").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_files_that_change_are_seen(spec: Path, cache: Cache, change: Callable[[Path], object]) -> None:
    compiled(spec)
    assert recall(spec, None, (), cache) is not None
    change(spec)

    assert recall(spec, None, (), cache) is None


def test_a_file_that_hides_one_of_the_library_is_seen(spec: Path, cache: Cache) -> None:
    spec.write_text('import "blocks/residual.dlspec"\n' + MODEL)
    compiled(spec)
    assert recall(spec, None, (), cache) is not None
    own = spec.with_name("blocks")
    own.mkdir()
    (own / "residual.dlspec").write_text("block Basic(channels) = conv(channels, 1)\n")

    assert recall(spec, None, (), cache) is None


def test_another_model_setting_or_dlc_is_not_known(spec: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(spec)

    assert recall(spec, "Net", (), cache) is None
    assert recall(spec, None, ("train.batch=2",), cache) is None
    monkeypatch.setattr("dlc.recall._dlc", lambda: "another")
    assert recall(spec, None, (), cache) is None


def test_an_entry_of_another_form_is_not_taken(spec: Path, cache: Cache) -> None:
    first = compiled(spec)
    for path in (cache.folder / "networks").iterdir():
        cache.put("networks", path.name, b'{"files": 3}')

    assert recall(spec, None, (), cache) is None
    assert compiled(spec) == first


def test_specs_with_mistakes_are_not_kept(spec: Path, cache: Cache) -> None:
    spec.write_text(MODEL.replace("relu", "relu").replace("Unit(4)", "Unit(4, 5)"))
    with pytest.raises(dlc.DlcError):
        compiled(spec)

    assert not os.path.exists(cache.folder / "networks")
