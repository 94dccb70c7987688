"""Initializers have the mean, variance and bounds that they promise."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
import torch

from dlc.compiler.initializers.base import Initializer
from dlc.compiler.initializers.constant import Constant, Zeros
from dlc.compiler.initializers.fan import He, Lecun, Xavier
from dlc.compiler.initializers.random import Normal, Orthogonal, Uniform
from dlc.compiler.layers.base import ArgumentError
from dlc.compiler.layers.convolution import Conv

FAN_IN, FAN_OUT = 72, 200
SHAPE = (200, 8, 3, 3)


def fill(initializer: Initializer, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return initializer.fill(shape, FAN_IN, FAN_OUT, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("initializer", "deviation"),
    [
        (He(), sqrt(2 / FAN_IN)),
        (He("fan_out"), sqrt(2 / FAN_OUT)),
        (He("fan_in", "uniform"), sqrt(2 / FAN_IN)),
        (He(slope=0.5), sqrt(2 / 1.25 / FAN_IN)),
        (Xavier(), sqrt(2 / (FAN_IN + FAN_OUT))),
        (Xavier("normal", gain=2.0), 2 * sqrt(2 / (FAN_IN + FAN_OUT))),
        (Xavier("uniform", "fan_in"), sqrt(1 / FAN_IN)),
        (Lecun(), sqrt(1 / FAN_IN)),
        (Lecun("uniform"), sqrt(1 / FAN_IN)),
        (Lecun("lenet5"), 2.4 / FAN_IN / sqrt(3)),
        (Normal(0.3), 0.3),
        (Uniform(-0.3, 0.3), 0.3 / sqrt(3)),
    ],
    ids=str,
)
def test_weights_are_centred_and_have_the_deviation(initializer: Initializer, deviation: float) -> None:
    weights = fill(initializer)

    assert weights.shape == SHAPE and weights.dtype == np.float32
    assert abs(weights.mean()) < 0.03 * deviation
    assert abs(weights.std() / deviation - 1) < 0.02


def test_uniform_weights_keep_within_their_bounds() -> None:
    assert np.abs(fill(Xavier())).max() <= sqrt(6 / (FAN_IN + FAN_OUT))
    assert np.abs(fill(Lecun("lenet5"))).max() <= 2.4 / FAN_IN
    low_high = fill(Uniform(0.2, 0.7))
    assert low_high.min() >= 0.2 and low_high.max() < 0.7


def test_constants_are_the_same_everywhere() -> None:
    assert not fill(Zeros()).any()
    assert (fill(Constant(1.5)) == 1.5).all()
    assert abs(fill(Normal(0.01, 3.0)).mean() - 3) < 0.01


@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (20, 5)])
def test_orthogonal_weights_have_orthonormal_rows_or_columns(shape: tuple[int, ...]) -> None:
    matrix = fill(Orthogonal(2.0), shape).reshape(shape[0], -1).astype(np.float64)
    product = matrix @ matrix.T if shape[0] < matrix.shape[1] else matrix.T @ matrix

    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-5)


def test_a_wrong_argument_is_named() -> None:
    with pytest.raises(ArgumentError, match="std"):
        Normal(0.0, 0.01)
    with pytest.raises(ArgumentError, match="high"):
        Uniform(1.0, 1.0)


@pytest.mark.parametrize(
    ("initializer", "draw"),
    [
        (He(), lambda w: torch.nn.init.kaiming_normal_(w)),
        (He("fan_out", "uniform"), lambda w: torch.nn.init.kaiming_uniform_(w, mode="fan_out")),
        (He(slope=0.2), lambda w: torch.nn.init.kaiming_normal_(w, a=0.2)),
        (Xavier(), lambda w: torch.nn.init.xavier_uniform_(w)),
        (Xavier("normal", gain=1.5), lambda w: torch.nn.init.xavier_normal_(w, 1.5)),
        (Orthogonal(), lambda w: torch.nn.init.orthogonal_(w)),
    ],
    ids=lambda argument: "torch" if callable(argument) else repr(argument),
)
def test_fans_and_scales_of_a_layer_are_torchs(
    initializer: Initializer, draw: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    spec = Conv(300, 3).parameters((40, 9, 9))["weight"]
    torch.manual_seed(0)

    ours = initializer.fill(spec.shape, spec.fan_in, spec.fan_out, np.random.default_rng(0))
    theirs = draw(torch.empty(spec.shape)).numpy()

    assert ours.std() == pytest.approx(theirs.std(), rel=0.02)
    assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=0.3)
