"""Batch norms fold into the layers before them, and what is folded is still a network with canonical weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dlc.compiler.build import build_inference
from dlc.compiler.description import describe, described
from dlc.compiler.folding import folding
from dlc.compiler.interpret import interpret
from dlc.compiler.layers.activation import Relu
from dlc.compiler.layers.base import Layer
from dlc.compiler.layers.convolution import Conv, ConvTranspose
from dlc.compiler.layers.dropout import Dropout
from dlc.compiler.layers.linear import Linear
from dlc.compiler.layers.normalization import BatchNorm
from dlc.compiler.network import Network

IMAGE, FEATURES = (4, 6, 5), (7,)
FOLDED: dict[str, tuple[list[Layer], tuple[int, ...]]] = {
    "conv": ([Conv(8, 3, pad=1, bias=False), BatchNorm()], IMAGE),
    "conv with a bias": ([Conv(8, (1, 3)), BatchNorm(eps=1e-3)], IMAGE),
    "conv with a bias, norm without scale": ([Conv(8, 3), BatchNorm(affine=False)], IMAGE),
    "grouped conv": ([Conv(8, 3, groups=2, bias=False), BatchNorm()], IMAGE),
    "depthwise conv": ([Conv(4, 3, groups=4, bias=False), BatchNorm()], IMAGE),
    "transposed conv": ([ConvTranspose(6, 3, stride=2, bias=False), BatchNorm()], IMAGE),
    "grouped transposed conv": ([ConvTranspose(6, 3, stride=2, groups=2), BatchNorm()], IMAGE),
    "linear": ([Linear(5), BatchNorm()], FEATURES),
    "behind dropout": ([Linear(5), Dropout(0.5), BatchNorm()], FEATURES),
}
KEPT: dict[str, tuple[list[Layer], tuple[int, ...]]] = {
    "norm first": ([BatchNorm(), Conv(8, 3)], IMAGE),
    "behind an activation": ([Conv(8, 3), Relu(), BatchNorm()], IMAGE),
    "behind scaled dropout": ([Linear(5), Dropout(0.5, at="inference"), BatchNorm()], FEATURES),
    "nothing takes the shift": ([Conv(8, 3, bias=False), BatchNorm(affine=False)], IMAGE),
}


@pytest.fixture
def row(builder: Any) -> Callable[[list[Layer], tuple[int, ...]], Network]:
    """Layers one after the other."""

    def build(layers: list[Layer], shape: tuple[int, ...]) -> Network:
        tensor = builder.input(*shape)
        for layer in layers:
            tensor = builder.call(layer, tensor)
        builder.output("y", tensor)
        return builder.network()

    return build


def weights_of(network: Network) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        name: np.float32(
            np.abs(random.standard_normal(s.shape)) + 0.5 if "var" in name else random.standard_normal(s.shape)
        )
        for name, s in network.parameter_specs().items()
    }


def answer(network: Network, weights: dict[str, np.ndarray]) -> np.ndarray:
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    image = np.random.default_rng(1).standard_normal((3, *network.inputs[0].shape))
    return interpret(build_inference(network), {"image": image, **exact})[0]["y"]


def norms(network: Network) -> int:
    return sum(isinstance(c.layer, BatchNorm) for c in network.calls)


@pytest.mark.parametrize("case", FOLDED)
def test_a_norm_ends_up_in_the_layer_before_it(case: str, row: Any) -> None:
    network = row(*FOLDED[case])
    weights = weights_of(network)
    made = folding(network)
    folded = made.fold(weights)
    expected = answer(network, weights)

    assert norms(made.network) == 0
    np.testing.assert_allclose(answer(made.network, folded), expected, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(answer(network, made.unfold(folded)), expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("case", FOLDED)
def test_unfolded_weights_are_whole_and_fold_to_the_same_bits(case: str, row: Any) -> None:
    network = row(*FOLDED[case])
    made = folding(network)
    folded = made.fold(weights_of(network))
    whole = made.unfold(folded)

    assert {n: a.shape for n, a in whole.items()} == {n: s.shape for n, s in network.parameter_specs().items()}
    for name, array in made.fold(whole).items():
        np.testing.assert_array_equal(array, folded[name], err_msg=name)


@pytest.mark.parametrize("case", KEPT)
def test_a_norm_stays_where_no_layer_takes_it_in(case: str, row: Any) -> None:
    network = row(*KEPT[case])
    weights = weights_of(network)
    made = folding(network)

    assert norms(made.network) == 1 and made.pairs == ()
    np.testing.assert_array_equal(answer(made.network, made.fold(weights)), answer(network, weights))


def test_a_convolution_that_others_read_keeps_its_weights(builder: Any) -> None:
    y = builder.call(Conv(8, 3), builder.input(*IMAGE))
    builder.output("y", builder.call(BatchNorm(), y))
    builder.output("z", y)

    assert folding(builder.network()).pairs == ()


def test_what_only_training_reads_keeps_nothing(builder: Any) -> None:
    y = builder.call(Conv(8, 3), builder.input(*IMAGE))
    builder.output("y", builder.call(BatchNorm(), y))
    builder.output("aux", builder.call(Relu(), y), training_only=True)

    assert len(folding(builder.network()).pairs) == 1


@pytest.mark.parametrize("shared", ["conv", "norm"])
def test_shared_weights_stay_as_they_are(builder: Any, shared: str) -> None:
    y = builder.input(*IMAGE)
    for i in range(2):
        y = builder.call(Conv(4, 1), y, name=f"c{i}", weights="c" if shared == "conv" else None)
        y = builder.call(BatchNorm(), y, name=f"n{i}", weights="n" if shared == "norm" else None)
    builder.output("y", y)

    assert folding(builder.network()).pairs == ()


@pytest.mark.parametrize("case", {**FOLDED, **KEPT})
def test_a_described_network_comes_back(case: str, row: Any) -> None:
    network = row(*{**FOLDED, **KEPT}[case])
    weights = weights_of(network)
    back = described(describe(network))

    assert [(c.name, c.layer) for c in back.calls] == [(c.name, c.layer) for c in network.calls]
    np.testing.assert_array_equal(answer(back, weights), answer(network, weights))
