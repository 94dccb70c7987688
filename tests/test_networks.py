"""Networks as users write them, from their text to numbers: what the artifact computes is what the interpreter says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dlc
from dlc import api
from dlc.compiler.build import build_inference
from dlc.compiler.frontend.formatter import format_source
from dlc.compiler.frontend.imports import read
from dlc.compiler.interpret import interpret
from dlc.compiler.network import Network

FOLDER = Path(__file__).parent / "networks"
MODELS = {
    "ablation": "Bare", "activations": "Activations", "auxiliary": "Helped", "dense": "Dense", "generator": "Generator",
    "inception": "Mixer", "mobile": "Mobile", "norms": "Norms", "pools": "Pools", "recursion": "Recurrent",
    "residual": "Swishy", "siamese": "Siamese", "two_inputs": "Joined", "unet": "UNet", "wide": "Odd",
}  # fmt: skip
"""Files below `networks`, and the model of each that is compiled."""


def _weights(network: Network, chance: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights in which nothing is zero or one: running statistics, scales and offsets matter too."""
    made = {}
    for name, array in api.fresh_weights(network).items():
        noise = chance.standard_normal(array.shape)
        made[name] = np.asarray(np.abs(noise) + 0.5 if "var" in name else array + 0.1 * noise, np.float32)
    return made


def test_every_network_is_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.dlspec")} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_network_is_written_as_the_formatter_writes_it(name: str) -> None:
    source = read(FOLDER / f"{name}.dlspec")

    assert format_source(source) == source.text


@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_network_gives_what_the_interpreter_gives(name: str, tmp_path: Path) -> None:
    network = api.one_network(FOLDER / f"{name}.dlspec", model=MODELS[name])
    chance = np.random.default_rng(0)
    weights = _weights(network, chance)
    api.compile_network(network, weights=weights).save(tmp_path / "model.dlc")
    net, graph = dlc.load(tmp_path / "model.dlc"), build_inference(network)

    for batch in (1, 2, 5):
        arrays = {i.name: chance.standard_normal((batch, *i.shape)).astype(np.float32) for i in network.inputs}
        wanted, _ = interpret(graph, {**arrays, **weights})
        got = net(**arrays)
        results = {spec.name: got for spec in net.outputs} if len(net.outputs) == 1 else dict(got)
        assert list(results) == list(wanted)
        for key, array in wanted.items():
            np.testing.assert_allclose(results[key], array, rtol=1e-4, atol=1e-4 * np.abs(array).max(), err_msg=key)
