"""What is kept between compilations of one network, and what an artifact holds of weights that kernels read transformed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dlc
from dlc import api
from dlc.compiler import pipeline
from dlc.compiler.choices import Form
from dlc.compiler.codegen.target import CpuTarget, Target
from dlc.compiler.codegen.tuning import Database, Measured
from dlc.compiler.description import network_of, weights_of
from dlc.compiler.passes.pack_weights import weight_block
from dlc.compiler.passes.winograd import form_workload
from dlc.compiler.passes.winograd_tasks import Shape
from dlc.runtime.artifact import load_artifact, read_manifest
from dlc.runtime.weights import save_weights

TILED = """
model Net {
    input image: [64, 28, 28]
    image -> c: conv(64, 3, pad=1) -> relu -> global_avg_pool -> fc: linear(5) -> output scores
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec, weights for it, and the artifact that was compiled first."""
    made = tmp_path_factory.mktemp("kept")
    (made / "net.dlspec").write_text(TILED, encoding="utf-8")
    save_weights(made / "weights.safetensors", api.fresh_weights(api.one_network(made / "net.dlspec"), seed=3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(made))
        compiled(made, "first.dlc")
    return made


@pytest.fixture(autouse=True)
def own_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))


def compiled(folder: Path, name: str) -> bytes:
    api.compile_to_file(folder / "net.dlspec", folder / name, weights=folder / "weights.safetensors")
    return (folder / name).read_bytes()


def refuse(*arguments: Any, **options: Any) -> None:
    raise AssertionError("it was compiled again")


def test_a_network_that_was_compiled_before_is_not_compiled_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "compile_folded", refuse)

    assert compiled(folder, "again.dlc") == (folder / "first.dlc").read_bytes()


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: b"", lambda d: d[:60] + b"\x00\x01" + d[62:]])
def test_a_damaged_program_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch, damage: Any) -> None:
    (kept,) = (folder / "dlc" / "compiled" / "programs").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))

    assert compiled(folder, "again.dlc") == (folder / "first.dlc").read_bytes()
    assert kept.read_bytes() == whole
    monkeypatch.setattr(pipeline, "compile_folded", refuse)
    compiled(folder, "again.dlc")


def test_other_weights_share_the_program_and_other_batches_do_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "compile_folded", refuse)
    api.compile_to_file(folder / "net.dlspec", folder / "fresh.dlc")
    with pytest.raises(AssertionError, match="compiled again"):
        api.compile_to_file(folder / "net.dlspec", folder / "four.dlc", batch=4)


def test_an_artifact_holds_canonical_weights_alone_and_computes_with_transformed_ones(folder: Path) -> None:
    artifact = load_artifact(folder / "first.dlc")
    given = weights_of(artifact, network_of(artifact))
    fresh = api.fresh_weights(network_of(artifact), seed=3)
    image = np.random.default_rng(0).standard_normal((2, 64, 28, 28), np.float32)
    w = {name: torch.from_numpy(array).double() for name, array in fresh.items()}
    hidden = torch.relu(
        torch.nn.functional.conv2d(torch.from_numpy(image).double(), w["c.weight"], w["c.bias"], padding=1)
    )
    expected = hidden.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]

    assert any(spec.transform is not None for spec in artifact.manifest.program.weights)
    assert set(artifact.weights) == set(fresh)
    for name, array in fresh.items():
        np.testing.assert_array_equal(given[name], array)
    np.testing.assert_allclose(dlc.load(folder / "first.dlc")(image), expected, rtol=1e-4, atol=1e-5)


def test_other_measured_choices_are_another_program_and_are_told_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target.parse("cpu")
    assert isinstance(target, CpuTarget)
    shape = Shape(28, 28, 64, 64, 3, weight_block(target.lanes, 64))
    name = form_workload(shape, pipeline.planned_batches(None), trained=False)
    database = Database(folder / "measured.jsonl")
    database.add(target, [Measured(name, "conv2d", Form(0), 2.0, 1.0)])

    def told(path: str) -> dict[str, str]:
        api.compile_to_file(folder / "net.dlspec", folder / path, tuning=folder / "measured.jsonl")
        return read_manifest(folder / path).tuning

    assert told("tuned.dlc") == {name: "direct"}
    monkeypatch.setattr(pipeline, "compile_folded", refuse)
    assert told("again.dlc") == {name: "direct"}
    api.compile_to_file(folder / "net.dlspec", folder / "plain.dlc", tuning=False)
    assert not read_manifest(folder / "plain.dlc").tuning
