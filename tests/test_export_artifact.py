"""Artifacts written as ONNX and as weights: what is folded and packed comes out as every other system reads it."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

import dlc
from dlc import api, exporting
from dlc.cli import main
from dlc.compiler.export.model import to_onnx
from dlc.compiler.folding import folding
from dlc.compiler.network import Network
from dlc.runtime.artifact import Artifact, load_artifact, read_manifest, save_artifact
from tests.test_export import (
    FILES,
    SPECS,
    TOLERANCE,
    by_reference,
    onnx_session,
    random_inputs,
    random_weights,
    relative_error,
    small_specs,
)

__all__ = ["small_specs"]

SMALL = """
block Unit(channels) = conv: conv(channels, 3, pad=1, bias=false) -> bn: batch_norm -> relu

model Net {
    input image: [3, 20, 16]
    image -> a: Unit(8) -> b: conv_transpose(6, 2, stride=2) -> n: batch_norm -> c: conv_connect([(0, 1), (2, 5)], 3)
        -> m: batch_norm -> p: prelu -> flatten -> fc: linear(5) -> output scores
}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "net.dlspec"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.fixture
def artifact(spec: Path, tmp_path: Path) -> Path:
    api.compile_to_file(spec, tmp_path / "net.dlc", weights=random_weights(api.one_network(spec)))
    return tmp_path / "net.dlc"


def onnx_error(model: onnx.ModelProto, network: Network, session: dlc.Session) -> float:
    """How far ONNX Runtime is from a session, for three samples."""
    inputs = random_inputs(network, 3)
    runtime = onnx_session(model)
    theirs = runtime.run(None, inputs)
    return relative_error({"y": theirs[0]}, {"y": session(*inputs.values())})


@pytest.mark.parametrize("file", FILES)
def test_a_folded_model_computes_the_same_in_onnx_runtime(file: str, small_specs: Path) -> None:
    worst = {}
    for network in api.networks(small_specs / file):
        weights, inputs = random_weights(network), random_inputs(network, 2)
        made = folding(network)
        session = onnx_session(to_onnx(made.network, made.fold(weights)))
        names = [o.name for o in session.get_outputs()]
        theirs = dict(zip(names, session.run(names, inputs), strict=True))
        worst[network.name] = relative_error(theirs, by_reference(network)(weights, inputs))
        assert not any(c.layer.keyword == "batch_norm" for c in made.network.calls)

    assert worst and all(error < TOLERANCE for error in worst.values()), worst


@pytest.mark.slow
@pytest.mark.parametrize(("file", "model"), [(f, n.name) for f in FILES for n in api.networks(SPECS / f)])
def test_a_compiled_model_of_full_size_computes_the_same_in_onnx_runtime(file: str, model: str) -> None:
    network = api.one_network(SPECS / file, model=model)
    weights = random_weights(network)
    session = api.compile_network(network, weights=weights)
    artifact: Artifact = session._artifact

    assert onnx_error(to_onnx(network, weights), network, session) < TOLERANCE
    assert onnx_error(to_onnx(*exporting.from_artifact(artifact, folded=True)), network, session) < TOLERANCE


def test_an_artifact_is_exported_as_what_it_computes(spec: Path, artifact: Path, tmp_path: Path) -> None:
    report = exporting.export(artifact, tmp_path / "net.onnx")

    model = onnx.load(report.path)
    assert report.model == "Net" and report.nodes == len(model.graph.node)
    assert [n.op_type for n in model.graph.node].count(
        "BatchNormalization"
    ) == 1  # behind conv_connect, which takes none in
    assert onnx_error(model, api.one_network(spec), dlc.load(artifact)) < 1e-5


def test_its_weights_have_the_specs_names_and_shapes_and_make_the_same_artifact(
    spec: Path, artifact: Path, tmp_path: Path
) -> None:
    file = tmp_path / "net.safetensors"
    report = exporting.export(artifact, file)
    network = api.one_network(spec)
    again = dlc.compile(spec, weights=file)

    assert report.nodes is None and report.size == file.stat().st_size
    assert {n: a.shape for n, a in load_file(file).items()} == {
        n: s.shape for n, s in network.parameter_specs().items()
    }
    for name, array in load_artifact(artifact).weights.items():
        np.testing.assert_array_equal(again._artifact.weights[name], array, err_msg=name)


def test_weights_that_nothing_changed_come_back_bit_for_bit(tmp_path: Path) -> None:
    weights = random_weights(api.one_network(SPECS / "lenet5_1998.dlspec"))
    api.compile_to_file(SPECS / "lenet5_1998.dlspec", tmp_path / "m.dlc", weights=weights)
    exporting.export(tmp_path / "m.dlc", tmp_path / "w.safetensors")
    back = load_file(tmp_path / "w.safetensors")

    assert list(back) == list(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_torchvision_loads_the_weights_of_an_artifact_and_answers_the_same(
    tmp_path: Path, torchvision_models: object
) -> None:
    spec = tmp_path / "net.dlspec"
    spec.write_text(
        'import "resnet.dlspec"\nimport "blocks/residual.dlspec"\n\n'
        "model Net = ResNet(Basic, [1, 1, 1, 1], classes=10, size=64)\n"
    )
    weights = random_weights(api.one_network(spec))
    session = dlc.compile(spec, weights=weights)
    session.save(tmp_path / "m.dlc")
    exporting.export(tmp_path / "m.dlc", tmp_path / "w.safetensors")
    resnet = torchvision_models.resnet  # type: ignore[attr-defined]  # a module
    module: nn.Module = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], 10)
    state = {name: torch.from_numpy(array) for name, array in load_file(tmp_path / "w.safetensors").items()}
    missing, unexpected = module.load_state_dict(state, strict=False)
    image = np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)
    with torch.inference_mode():
        expected = module.eval()(torch.from_numpy(image)).numpy()

    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    np.testing.assert_allclose(session(image), expected, atol=1e-4 * np.abs(expected).max())


def test_weights_of_a_spec_are_written_too(spec: Path, tmp_path: Path) -> None:
    weights = random_weights(api.one_network(spec))
    save_file(weights, tmp_path / "given.safetensors")
    exporting.export(spec, tmp_path / "w.safetensors", weights=tmp_path / "given.safetensors")

    for name, array in load_file(tmp_path / "w.safetensors").items():
        np.testing.assert_array_equal(array, weights[name])


def test_an_artifact_for_another_machine_is_exported_all_the_same(artifact: Path, tmp_path: Path) -> None:
    whole = load_artifact(artifact)
    target = msgspec.structs.replace(whole.manifest.target, triple="riscv64-linux-gnu")
    save_artifact(artifact, Artifact(msgspec.structs.replace(whole.manifest, target=target), whole.code, whole.weights))

    assert exporting.export(artifact, tmp_path / "net.onnx").nodes
    with pytest.raises(dlc.RuntimeFault, match="R0107"):
        dlc.load(artifact)


def test_an_artifact_without_a_network_says_so(artifact: Path) -> None:
    whole = load_artifact(artifact)
    bare = msgspec.structs.replace(whole.manifest, network=msgspec.Raw(b"null"))
    save_artifact(artifact, Artifact(bare, whole.code, whole.weights))

    with pytest.raises(dlc.DlcError, match="E0864"):
        exporting.export(artifact)


@pytest.mark.parametrize(
    "given", [b'{"name": 3}', b'{"name": "N", "inputs": [], "calls": [["x", "no_such", [0]]], "outputs": {}}']
)
def test_a_network_of_another_version_is_a_mistake_that_says_so(given: bytes, artifact: Path) -> None:
    whole = load_artifact(artifact)
    other = msgspec.structs.replace(whole.manifest, network=msgspec.Raw(given))
    save_artifact(artifact, Artifact(other, whole.code, whole.weights))

    with pytest.raises(dlc.DlcError, match=r"E0864.*another version"):
        exporting.export(artifact)


@pytest.mark.parametrize("options", [{"model": "Net"}, {"weights": "w.safetensors"}, {"settings": ("train.batch=3",)}])
def test_what_an_artifact_has_already_is_not_taken(options: dict[str, object], artifact: Path) -> None:
    with pytest.raises(dlc.RuntimeFault, match="R0217"):
        exporting.export(artifact, **options)  # type: ignore[arg-type]  # of several kinds


def test_files_that_are_neither_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")

    with pytest.raises(dlc.RuntimeFault, match="R0102"):
        exporting.export(tmp_path / "notes.txt")


def test_the_command_exports_an_artifact(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("net.onnx", "net.safetensors"):
        monkeypatch.setattr(sys, "argv", ["dlc", "export", str(artifact), "-o", str(tmp_path / name)])
        main()

    said = capsys.readouterr()
    assert "nodes" in said.out.splitlines()[0] and "nodes" not in said.out.splitlines()[1]
    assert "initialised" not in said.err and read_manifest(artifact).model == "Net"
