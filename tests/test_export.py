"""ONNX files: every shipped model and every layer computes in ONNX Runtime what it computes here."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import save_file

import dlc
from dlc import api, exporting, importing
from dlc.cli import main
from dlc.compiler.build import build_inference
from dlc.compiler.export.model import to_onnx
from dlc.compiler.interpret import interpret
from dlc.compiler.network import Network
from dlc.runtime.weights import load_weights

SPECS = Path(dlc.__file__).parent / "specs"
FILES = sorted(file.name for file in SPECS.glob("*.dlspec"))
TOLERANCE = 1e-4

Arrays = Mapping[str, np.ndarray]
Computation = Callable[[Arrays, Arrays], Arrays]  # of weights and inputs, the outputs


def random_weights(network: Network) -> dict[str, np.ndarray]:
    """Weights of He's size; biases, norms and statistics away from the zeros and ones that would hide mistakes."""
    generator = np.random.default_rng(1)
    weights = {}
    for name, spec in network.parameter_specs().items():
        if name.endswith("running_var") or (spec.role == "norm" and name.endswith("weight")):
            weights[name] = generator.uniform(0.5, 1.5, spec.shape).astype(np.float32)
        else:
            scale = np.sqrt(2 / spec.fan_in) if spec.role == "weight" else 0.1
            weights[name] = generator.standard_normal(spec.shape, np.float32) * np.float32(scale)
    return weights


def random_inputs(network: Network, batch: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {i.name: generator.standard_normal((batch, *i.shape)).astype(np.float32) for i in network.inputs}


def onnx_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def relative_error(have: Arrays, want: Arrays) -> float:
    """The largest difference of any output, as a part of that output's largest value."""
    assert list(have) == list(want)
    return max(float(np.abs(have[k] - want[k]).max() / np.abs(want[k]).max()) for k in want)


def errors(network: Network, ours: Computation) -> list[float]:
    """How far ONNX Runtime is from `ours`, for three samples and for the first of them alone."""
    weights = random_weights(network)
    model = to_onnx(network, weights)
    session = onnx_session(model)
    names = [o.name for o in session.get_outputs()]
    assert {i.name for i in model.graph.initializer} == set(network.parameter_specs(training=False))
    assert [i.name for i in session.get_inputs()] == [i.name for i in network.inputs]
    samples = random_inputs(network, 3)
    found = []
    for batch in (3, 1):
        inputs = {name: array[:batch] for name, array in samples.items()}
        theirs = dict(zip(names, session.run(names, inputs), strict=True))
        found.append(relative_error(theirs, ours(weights, inputs)))
    return found


def by_reference(network: Network) -> Computation:
    """The numpy reference; as it takes its time, its answer for one sample is the first of its earlier answers."""
    graph = build_inference(network)
    known: dict[str, np.ndarray] = {}

    def compute(weights: Arrays, inputs: Arrays) -> Arrays:
        if not known:
            known.update(interpret(graph, {**weights, **inputs})[0])
        return {name: array[: len(next(iter(inputs.values())))] for name, array in known.items()}

    return compute


SMALL = {"alexnet.dlspec": 67, "googlenet.dlspec": 96, "resnet_cifar.dlspec": 16}  # else 32; a pool needs these


@pytest.fixture(scope="module")
def small_specs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped specs with smaller images and hidden layers, and without the expectations that these break."""
    folder = tmp_path_factory.mktemp("small") / "specs"
    shutil.copytree(SPECS, folder)
    for file in folder.rglob("*.dlspec"):
        size = SMALL.get(file.name, 32)
        models = re.split(r"^(?:data|train) ", file.read_text(encoding="utf-8"), flags=re.M)[
            0
        ]  # recipes are for large images
        text = re.sub(r"(?<=size: int = )\d+|(?<=size = )\d+", str(size), models)
        text = text.replace("[3, 32, 32]", f"[3, {size}, {size}]").replace("4096", "64")
        file.write_text(re.sub(r"expect [^}\n]*", "", text), encoding="utf-8")
    return folder


@pytest.mark.parametrize("file", FILES)
def test_a_shipped_model_computes_the_same_in_onnx_runtime(file: str, small_specs: Path) -> None:
    networks = api.networks(small_specs / file)
    worst = {n.name: max(errors(n, by_reference(n))) for n in networks}

    assert worst and all(error < TOLERANCE for error in worst.values()), worst


LAYERS = {
    "conv(6, 3)": [3, 9, 8],
    "conv(6, (1, 3), stride=2, pad=same_upper, bias=false)": [3, 9, 8],
    "conv(6, 3, pad=(0, 1, 2, 3), groups=3, dilation=2)": [3, 9, 8],
    "conv_transpose(6, 3, stride=2, pad=1, output_pad=1, groups=3)": [3, 5, 6],
    "conv_transpose(4, (2, 3), stride=(1, 2), pad=(0, 1, 1, 0), dilation=2, bias=false)": [3, 5, 6],
    "conv_connect([(0, 1), (1, 2), (0, 2), (0, 1, 2)], 3, pad=1)": [3, 9, 8],
    "linear(5)": [7],
    "linear(5, bias=false)": [7],
    "rbf(10)": [84],
    "sigmoid": [3, 4, 5],
    "tanh": [3, 4, 5],
    "scaled_tanh": [3, 4, 5],
    "relu": [3, 4, 5],
    "leaky_relu(0.1)": [3, 4, 5],
    "prelu": [3, 4, 5],
    "prelu(shared=true) -> flatten -> prelu": [3, 4, 5],
    "elu(0.7)": [3, 4, 5],
    "selu": [3, 4, 5],
    "gelu": [3, 4, 5],
    "gelu(approximate=tanh)": [3, 4, 5],
    "silu": [3, 4, 5],
    "hard_sigmoid": [3, 4, 5],
    "hard_swish": [3, 4, 5],
    "softplus": [3, 4, 5],
    "clip(-0.5, 0.7)": [3, 4, 5],
    "scale(1.7)": [3, 4, 5],
    "offset(0.3)": [3, 4, 5],
    "identity": [3, 4, 5],
    "softmax": [3, 4, 5],
    "log_softmax": [7],
    "dropout(0.3)": [3, 4, 5],
    "dropout(0.3, at=inference)": [3, 4, 5],
    "batch_norm(eps=1e-3)": [3, 4, 5],
    "batch_norm(affine=false)": [7],
    "affine": [3, 4, 5],
    "affine(bias=false)": [7],
    "layer_norm": [3, 4, 5],
    "layer_norm(affine=false)": [3, 4, 5],
    "layer_norm(over=channels)": [3, 4, 5],
    "layer_norm(over=channels, affine=false, eps=1e-3)": [7],
    "group_norm(2)": [6, 4, 5],
    "group_norm(3, affine=false, eps=1e-3)": [6, 4, 5],
    "instance_norm": [3, 4, 5],
    "instance_norm(affine=true)": [3, 4, 5],
    "local_response_norm": [8, 4, 5],
    "local_response_norm(3, alpha=0.2, beta=0.5, k=2, divide=false)": [8, 4, 5],
    "max_pool(3, stride=2, pad=1)": [3, 9, 8],
    "max_pool(3, stride=2, round=ceil)": [3, 8, 8],
    "max_pool(2, stride=3, pad=1, round=ceil)": [3, 8, 7],
    "min_pool(2, round=ceil)": [3, 9, 8],
    "avg_pool((2, 3), stride=2)": [3, 9, 8],
    "avg_pool(3, stride=2, pad=1)": [3, 9, 8],
    "avg_pool(3, stride=2, pad=1, count_padding=false)": [3, 9, 8],
    "avg_pool(3, stride=2, pad=1, round=ceil)": [3, 8, 8],
    "avg_pool(3, stride=2, pad=1, round=ceil, count_padding=false)": [3, 8, 8],
    "avg_pool(3, stride=2, round=ceil)": [3, 8, 8],
    "global_avg_pool": [3, 4, 5],
    "global_max_pool": [3, 4, 5],
    "adaptive_avg_pool((2, 3))": [3, 4, 9],
    "adaptive_avg_pool((3, 4))": [3, 5, 7],
    "adaptive_avg_pool((7, 2))": [3, 4, 4],
    "adaptive_avg_pool(1)": [3, 4, 5],
    "subsample((2, 3), stride=2)": [3, 9, 8],
    "fork(identity, relu, tanh) -> add": [3, 4, 5],
    "fork(identity, relu, global_avg_pool) -> multiply": [3, 4, 5],
    "fork(identity, conv(1, 1)) -> multiply": [3, 4, 5],
    "fork(identity, relu, tanh) -> concat": [3, 4, 5],
    "fork(identity, relu) -> concat(axis=width)": [3, 4, 5],
    "flatten": [3, 4, 5],
    "reshape([2, -1, 5])": [3, 4, 5],
    "reshape([-1])": [3, 4, 5],
    "pad((1, 2, 3, 0), channels=(1, 2), value=0.5)": [3, 4, 5],
    "crop((3, 2))": [3, 4, 5],
    "crop(2, at=top_left)": [3, 4, 5],
    "slice(1, -1, step=2)": [7, 4, 5],
    "slice(1, 3, axis=height)": [3, 4, 5],
    "channel_shuffle(3)": [6, 4, 5],
    "upsample((2, 3))": [3, 4, 5],
    "upsample(3, mode=bilinear)": [3, 4, 5],
}


def one_stage(stage: str, shape: list[int], folder: Path) -> Network:
    file = folder / "stage.dlspec"
    file.write_text(f"model M {{\n    input x: {shape}\n    x -> {stage} -> output y\n}}\n", encoding="utf-8")
    return api.one_network(file)


@pytest.mark.parametrize("stage", LAYERS)
def test_a_layer_computes_the_same_in_onnx_runtime(stage: str, tmp_path: Path) -> None:
    network = one_stage(stage, LAYERS[stage], tmp_path)

    assert max(errors(network, by_reference(network))) < 1e-5


@pytest.mark.parametrize("stage", LAYERS)
def test_a_layer_comes_back_from_onnx(stage: str, tmp_path: Path) -> None:
    network = one_stage(stage, LAYERS[stage], tmp_path)
    weights, inputs = random_weights(network), random_inputs(network, 2)
    onnx.save(to_onnx(network, weights), tmp_path / "m.onnx")

    report = importing.import_onnx(tmp_path / "m.onnx", tmp_path / "out")

    back = api.one_network(report.spec)
    ours, _ = interpret(build_inference(back), {**load_weights(report.weights), **inputs})
    theirs, _ = interpret(build_inference(network), {**weights, **inputs})
    assert relative_error(ours, theirs) < 1e-5


def test_every_layer_is_exported() -> None:
    tried = {word for stage in LAYERS for word in re.findall(r"\w+", stage)}

    assert set(api.vocabulary().layers) <= tried


def test_names_are_those_of_the_spec_and_shapes_are_written_along(tmp_path: Path) -> None:
    graph = to_onnx(*weighted(api.one_network(SPECS / "lenet5.dlspec"))).graph

    assert [node.name for node in graph.node[:3]] == ["c1", "tanh_1", "avg_pool_1"]
    assert list(graph.node[0].input) == ["image", "c1.weight", "c1.bias"]
    assert (graph.node[-1].name, list(graph.node[-1].output)) == ("out", ["logits"])
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    assert shapes["avg_pool_1"] == ["batch", 6, 14, 14]


def test_outputs_that_are_one_tensor_or_an_input_have_names_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "twice.dlspec"
    text = (
        "model M {\n input x: [3]\n y = x -> relu: relu\n y -> output a\n y -> output b\n x -> identity -> output c\n}"
    )
    file.write_text(text, encoding="utf-8")
    network = api.one_network(file)

    assert max(errors(network, by_reference(network))) == 0


def test_names_that_meet_are_kept_apart(tmp_path: Path) -> None:
    file = tmp_path / "names.dlspec"
    file.write_text("model M {\n input x: [3]\n x -> y: relu -> x2: tanh -> output y\n}", encoding="utf-8")
    network = api.one_network(file)

    assert max(errors(network, by_reference(network))) < 1e-6


def test_a_shared_stage_has_one_set_of_weights(tmp_path: Path) -> None:
    file = tmp_path / "shared.dlspec"
    text = "model M {\n input x: [3]\n enc = fc: linear(3)\n x -> enc -> relu -> enc -> output y\n}"
    file.write_text(text, encoding="utf-8")
    network = api.one_network(file)

    assert max(errors(network, by_reference(network))) < 1e-5


def test_a_layer_that_onnx_cannot_say_is_named_with_its_place(tmp_path: Path) -> None:
    network = one_stage("norm: local_response_norm(4)", [8, 4, 5], tmp_path)

    with pytest.raises(dlc.DlcError) as caught:
        to_onnx(*weighted(network))

    (said,) = caught.value.diagnostics
    assert said.code == "E0854" and "`norm` (local_response_norm)" in said.message and "even size" in said.message
    assert said.span is not None and said.span.line == 3


def test_a_layer_that_no_family_knows_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlc.compiler.export.model.FAMILIES", ())
    network = one_stage("act: relu", [3], tmp_path)

    with pytest.raises(dlc.DlcError, match=r"E0854.*`act` \(relu\)"):
        to_onnx(network, {})


def weighted(network: Network) -> tuple[Network, dict[str, np.ndarray]]:
    return network, api.fresh_weights(network)


def test_export_writes_the_weights_of_a_file(tmp_path: Path) -> None:
    network = api.one_network(SPECS / "mlp.dlspec")
    weights = random_weights(network)
    save_file(weights, tmp_path / "w.safetensors")

    report = exporting.export(SPECS / "mlp.dlspec", tmp_path / "m.onnx", weights=tmp_path / "w.safetensors")

    model = onnx.load(report.path)
    assert (report.model, report.size, report.nodes) == ("Mlp", report.path.stat().st_size, len(model.graph.node))
    assert (model.ir_version, model.opset_import[0].version) == (10, 21)
    for initializer in model.graph.initializer:
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(initializer), weights[initializer.name])


def test_weights_of_heads_that_only_training_needs_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "heads.dlspec"
    text = "model M {\n input x: [3]\n y = x -> fc: linear(4)\n y -> aux: linear(2) -> output aux when training\n"
    file.write_text(text + " y -> relu -> output z\n}", encoding="utf-8")
    weights = api.fresh_weights(api.one_network(file))

    report = exporting.export(file, tmp_path / "m.onnx", weights=weights)

    assert [i.name for i in onnx.load(report.path).graph.initializer] == ["fc.weight", "fc.bias"]


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    weights = api.fresh_weights(api.one_network(SPECS / "mlp.dlspec"))
    weights["fc9.weight"] = weights.pop("fc1.weight")

    with pytest.raises(dlc.RuntimeFault, match=r"R0403.*\n.*missing: fc1.weight \(the file has fc9.weight\)"):
        exporting.export(SPECS / "mlp.dlspec", tmp_path / "m.onnx", weights=weights)


def test_without_the_package_the_command_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(dlc.DlcError, match=r"pip install 'dlc\[onnx\]'"):
        exporting.export(SPECS / "mlp.dlspec")


def test_two_gigabytes_of_weights_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlc.compiler.export.model.MOST_BYTES", 1000)

    with pytest.raises(dlc.DlcError, match=r"E0855.*Mlp"):
        to_onnx(*weighted(api.one_network(SPECS / "mlp.dlspec")))


def test_the_command_writes_a_file_and_says_so_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lenet5.onnx"
    monkeypatch.setattr(sys, "argv", ["dlc", "export", str(SPECS / "lenet5.dlspec"), "-o", str(file), "--json"])

    main()

    said = capsys.readouterr()
    wanted = {"path": str(file), "bytes": file.stat().st_size, "model": "LeNet5", "nodes": 12}
    assert json.loads(said.out.splitlines()[-1]) == wanted
    assert "freshly initialised" in said.err
