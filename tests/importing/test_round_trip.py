"""What `dlc export` writes, `dlc import` reads: the same network, under the same names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import dlc
from dlc import api, importing
from dlc.compiler.build import build_inference
from dlc.compiler.export.model import to_onnx
from dlc.compiler.interpret import interpret
from dlc.compiler.network import Network
from dlc.runtime.weights import load_weights

SPECS = Path(dlc.__file__).parent / "specs"
FILES = sorted(file.name for file in SPECS.glob("*.dlspec"))
DEEPER = {"ResNet34", "ResNet101", "ResNet152", "ResNet34A", "ResNet101Of2015", "ResNet152Of2015", "Plain34"}
DEEPER |= {"VggB", "VggE", "VggBBN", "VggDBN", "VggEBN", "ResNet44", "ResNet56", "ResNet110", "Plain44", "Plain56"}
"""Models that differ from others in depth only; the test of full size has them."""

SMALL = {"alexnet.dlspec": 67, "googlenet.dlspec": 96, "resnet_cifar.dlspec": 16}  # else 32; a pool needs these


def random_weights(network: Network) -> dict[str, np.ndarray]:
    """Weights of He's size; norms and statistics away from the zeros and ones that would hide mistakes."""
    generator = np.random.default_rng(1)
    weights = {}
    for name, spec in network.parameter_specs(training=False).items():
        if name.endswith("running_var") or (spec.role == "norm" and name.endswith("weight")):
            weights[name] = generator.uniform(0.5, 1.5, spec.shape).astype(np.float32)
        else:
            scale = np.sqrt(2 / spec.fan_in) if spec.role == "weight" else 0.1
            weights[name] = generator.standard_normal(spec.shape, np.float32) * np.float32(scale)
    return weights


def counts(network: Network) -> tuple[int, int]:
    specs = network.parameter_specs(training=False).values()
    macs = sum(c.layer.macs(*(t.shape for t in c.inputs)) for c in network.inference_calls())
    return sum(int(np.prod(s.shape)) for s in specs if s.trainable), macs


@pytest.fixture(scope="module")
def small_specs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of the shipped specs with smaller images and hidden layers, without what these break."""
    folder = tmp_path_factory.mktemp("small") / "specs"
    shutil.copytree(SPECS, folder)
    for file in folder.rglob("*.dlspec"):
        size = SMALL.get(file.name, 32)
        text = re.sub(r"(?<=size: int = )\d+|(?<=size = )\d+", str(size), file.read_text(encoding="utf-8"))
        text = text.replace("[3, 32, 32]", f"[3, {size}, {size}]").replace("4096", "64")
        text = re.sub(r"^(data|train) .*?^}\n", "", text, flags=re.DOTALL | re.MULTILINE)
        file.write_text(re.sub(r"expect [^}\n]*", "", text), encoding="utf-8")
    return folder


def returned(network: Network, folder: Path) -> tuple[Network, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The network after export and import, its weights, and those that it had."""
    weights = random_weights(network)
    onnx.save(to_onnx(network, weights), folder / "net.onnx")
    report = importing.import_onnx(folder / "net.onnx", folder / "net", force=True)
    return api.one_network(report.spec), load_weights(report.weights), weights


@pytest.mark.parametrize("file", FILES)
def test_a_shipped_model_comes_back(file: str, small_specs: Path, tmp_path: Path) -> None:
    for network in (n for n in api.networks(small_specs / file) if n.name not in DEEPER):
        back, read, weights = returned(network, tmp_path)
        samples = np.random.default_rng(0).standard_normal((2, *network.inputs[0].shape)).astype(np.float32)
        feeds = {network.inputs[0].name: samples}
        (ours,), (theirs,) = (
            interpret(build_inference(n), {**w, **feeds})[0].values() for n, w in ((back, read), (network, weights))
        )

        assert counts(back) == counts(network)
        assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max(), network.name
        if network.name != "LeNet5":  # the block C3 leaves its one layer without a label, here the block's label is its
            assert {n: a.shape for n, a in read.items()} == {n: a.shape for n, a in weights.items()}


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_a_shipped_model_of_full_size_comes_back(file: str, tmp_path: Path) -> None:
    for network in api.networks(SPECS / file):
        back, read, weights = returned(network, tmp_path)
        sample = np.random.default_rng(0).standard_normal((1, *network.inputs[0].shape)).astype(np.float32)
        ours, theirs = (api.compile_network(n, weights=w)(sample) for n, w in ((back, read), (network, weights)))

        assert counts(back) == counts(network)
        assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max(), network.name


@pytest.mark.parametrize("name", ["resnet.ResNet18", "resnet.ResNet50", "lenet5_1998.LeNet5", "googlenet.GoogLeNet"])
def test_the_spec_of_a_shipped_model_reads_as_a_person_writes(
    name: str, tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    file, _, model = name.partition(".")
    network = api.one_network(SPECS / f"{file}.dlspec", model=model)
    weights = {n: np.zeros(s.shape, np.float32) for n, s in network.parameter_specs(training=False).items()}
    onnx.save(to_onnx(network, weights), tmp_path / f"{model}.onnx")

    report = importing.import_onnx(tmp_path / f"{model}.onnx", tmp_path / "net")

    golden(report.spec.read_text(encoding="utf-8"), f"importing/{model}.dlspec")


def test_two_inputs_and_two_outputs_keep_their_names(tmp_path: Path) -> None:
    file = tmp_path / "two.dlspec"
    text = """model Two {
    input image: [3, 8, 8]
    input extra: [5]
    features = image -> stem: conv(4, 3) -> relu -> flatten
    gate = extra -> fc: linear(144) -> sigmoid
    both = features * gate
    both -> output mixed
    both -> head: linear(3) -> output logits
}"""
    file.write_text(text, encoding="utf-8")
    network = api.one_network(file)
    back, read, weights = returned(network, tmp_path)
    generator = np.random.default_rng(0)
    feeds = {i.name: generator.standard_normal((2, *i.shape)).astype(np.float32) for i in network.inputs}
    ours, theirs = (interpret(build_inference(n), {**w, **feeds})[0] for n, w in ((back, read), (network, weights)))

    assert list(ours) == ["mixed", "logits"] and set(read) == set(weights)
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-5, atol=1e-6)


def test_long_ways_around_are_written_with_names(tmp_path: Path) -> None:
    file = tmp_path / "ways.dlspec"
    text = """model Ways {
    input x: [4, 8, 8]
    a = x -> a: conv(4, 3, pad=1)
    b = a -> b: conv(4, 3, pad=1)
    c = add(a, b) -> c: conv(4, 3, pad=1)
    d = add(b, c) -> d: conv(4, 3, pad=1)
    concat(a, d, c) -> e: conv(2, 1) -> output y
}"""
    file.write_text(text, encoding="utf-8")
    network = api.one_network(file)
    back, read, weights = returned(network, tmp_path)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype(np.float32)}
    ours, theirs = (interpret(build_inference(n), {**w, **feeds})[0] for n, w in ((back, read), (network, weights)))

    assert set(read) == set(weights)
    np.testing.assert_allclose(ours["y"], theirs["y"], rtol=1e-5, atol=1e-5)
