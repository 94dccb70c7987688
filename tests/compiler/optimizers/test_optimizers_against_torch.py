"""Fifty steps of every optimizer are torch's, or the formula's where torch has none, in float64, by the interpreter.

Constants of a graph are float32, so that a factor like 0.9 sets the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from dlc.compiler.catalog import catalog
from dlc.compiler.interpret import evaluate
from dlc.compiler.ir import DType, Input, Parameter, TensorType, source
from dlc.compiler.layers.base import ArgumentError
from dlc.compiler.optimizers.adam import Adam, AdamW
from dlc.compiler.optimizers.adaptive import AdaGrad, RmsProp, Rprop
from dlc.compiler.optimizers.base import Optimizer, OptimizerScalars
from dlc.compiler.optimizers.frozen import Frozen
from dlc.compiler.optimizers.sgd import Sgd

STEPS = 50
RATES = [0.1 / (1 + 0.1 * step) for step in range(STEPS)]
Slope = Callable[[np.ndarray], np.ndarray]


def slope(x: np.ndarray) -> np.ndarray:
    """The gradient of a function with curvature of several sizes, and no symmetry."""
    return np.array([4.0, 1.0, 0.2]) * x + np.cos(x)


def run(optimizer: Optimizer, start: np.ndarray) -> np.ndarray:
    """The parameter after the steps of the compiled rule."""
    shape = TensorType(start.shape)
    parameter, gradient = source(Parameter("w", shape)), source(Input("gradient", shape))
    state = {name: source(Parameter(f"w@{name}", shape)) for name in optimizer.state()}
    plain = OptimizerScalars(source(Input("rate", TensorType(()))), source(Input("step", TensorType((), DType.UINT32))))
    scalars = OptimizerScalars(plain.rate, plain.step, optimizer.shared(plain))
    moved, states = optimizer.update(parameter, gradient, state, scalars)
    arrays = {"w": start, **{f"w@{name}": np.full(start.shape, value) for name, value in optimizer.state().items()}}
    for step, rate in enumerate(RATES):
        feeds = {**arrays, "gradient": slope(arrays["w"]), "rate": np.float64(rate), "step": np.uint32(step)}
        results = evaluate([moved, *states.values()], feeds)
        arrays = dict(zip(["w", *(f"w@{name}" for name in states)], results, strict=True))
    return arrays["w"]


def torch_run(make: Callable[[list[torch.Tensor]], torch.optim.Optimizer], start: np.ndarray) -> np.ndarray:
    weight = torch.tensor(start, requires_grad=True)
    optimizer = make([weight])
    for rate in RATES:
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.tensor(slope(weight.detach().numpy()))
        optimizer.step()
    return weight.detach().numpy()


START = np.array([1.0, -2.0, 0.5])


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        (Sgd(0.1), lambda p: torch.optim.SGD(p, 0.1)),
        (Sgd(0.1, 0.9), lambda p: torch.optim.SGD(p, 0.1, 0.9)),
        (Sgd(0.1, 0.9, nesterov=True), lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True)),
        (Adam(), lambda p: torch.optim.Adam(p)),
        (Adam(beta1=0.5, beta2=0.9, eps=1e-2), lambda p: torch.optim.Adam(p, betas=(0.5, 0.9), eps=1e-2)),
        (AdaGrad(), lambda p: torch.optim.Adagrad(p)),
        (RmsProp(eps=1e-3), lambda p: torch.optim.RMSprop(p, eps=1e-3)),
        (RmsProp(decay=0.9, momentum=0.5), lambda p: torch.optim.RMSprop(p, alpha=0.9, momentum=0.5)),
        (Rprop(0.1), lambda p: torch.optim.Rprop(p, 0.1)),
        (AdamW(weight_decay=0.1), lambda p: torch.optim.AdamW(p, weight_decay=0.1)),
    ],
    ids=lambda argument: "torch" if callable(argument) else repr(argument),
)
def test_steps_are_torchs(optimizer: Optimizer, make: Callable[..., torch.optim.Optimizer]) -> None:
    np.testing.assert_allclose(run(optimizer, START), torch_run(make, START), rtol=1e-5, atol=1e-7)


def test_lecture_momentum_carries_the_rate_of_its_time() -> None:
    x, v = START, np.zeros(3)
    for rate in RATES:
        v = 0.9 * v + rate * slope(x)
        x = x - v

    np.testing.assert_allclose(run(Sgd(0.1, 0.9, form="lecture"), START), x, rtol=1e-5, atol=1e-7)


def test_lecture_nesterov_keeps_the_look_ahead_point() -> None:
    x, v = START, np.zeros(3)
    for rate in RATES:
        v = 0.9 * v + rate * slope(x - 0.9 * v)
        x = x - v

    np.testing.assert_allclose(
        run(Sgd(0.1, 0.9, nesterov=True, form="lecture"), START), x - 0.9 * v, rtol=1e-5, atol=1e-7
    )


def test_average_momentum_is_an_exponential_mean_of_gradients() -> None:
    x, v = START, np.zeros(3)
    for rate in RATES:
        v = 0.9 * v + 0.1 * slope(x)
        x = x - rate * v

    np.testing.assert_allclose(run(Sgd(0.1, 0.9, form="average"), START), x, rtol=1e-5, atol=1e-7)


def test_lecture_adam_has_eps_inside_the_root_and_no_correction() -> None:
    x, m, v = START, np.zeros(3), np.zeros(3)
    for rate in RATES:
        g = slope(x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x = x - rate * m / np.sqrt(v + 1e-3)

    optimizer = Adam(eps=1e-3, eps_inside_root=True, bias_correction=False)
    np.testing.assert_allclose(run(optimizer, START), x, rtol=1e-5, atol=1e-7)


def test_lecture_adagrad_has_eps_inside_the_root() -> None:
    x, total = START, np.zeros(3)
    for rate in RATES:
        g = slope(x)
        total = total + g * g
        x = x - rate / np.sqrt(total + 1e-2) * g

    np.testing.assert_allclose(run(AdaGrad(eps=1e-2, eps_inside_root=True), START), x, rtol=1e-5, atol=1e-7)


def test_lecture_rmsprop_has_eps_inside_the_root() -> None:
    x, mean = START, np.zeros(3)
    for rate in RATES:
        g = slope(x)
        mean = 0.9 * mean + 0.1 * g * g
        x = x - rate / np.sqrt(mean + 1e-2) * g

    np.testing.assert_allclose(run(RmsProp(decay=0.9, eps=1e-2, eps_inside_root=True), START), x, rtol=1e-5, atol=1e-7)


def test_rprop_is_its_papers_rule_with_the_turned_gradient_forgotten() -> None:
    x, size, previous = START, np.full(3, 0.1), np.zeros(3)
    for _ in RATES:
        g = slope(x)
        turned, kept = g * previous < 0, g * previous > 0
        size = np.clip(np.where(kept, 1.2 * size, np.where(turned, 0.5 * size, size)), 1e-6, 50.0)
        g = np.where(turned, 0.0, g)
        x, previous = x - size * np.sign(g), g

    np.testing.assert_allclose(run(Rprop(0.1), START), x, rtol=1e-5, atol=1e-7)


def test_nesterov_with_averaged_momentum_steps_along_the_look_ahead() -> None:
    x, v = START, np.zeros(3)
    for rate in RATES:
        g = slope(x)
        v = 0.9 * v + 0.1 * g
        x = x - rate * (0.1 * g + 0.9 * v)

    np.testing.assert_allclose(run(Sgd(0.1, 0.9, nesterov=True, form="average"), START), x, rtol=1e-5, atol=1e-7)


def test_adams_correction_is_exact_in_float32() -> None:
    plain = OptimizerScalars(source(Input("rate", TensorType(()))), source(Input("step", TensorType((), DType.UINT32))))
    corrections = Adam().shared(plain)

    for step in (0, 1, 10, 1000, 100_000):
        results = evaluate(list(corrections.values()), {"step": np.uint32(step)})
        expected = [1 / (1 - 0.9 ** (step + 1)), 1 / (1 - 0.999 ** (step + 1))]
        np.testing.assert_allclose([float(r) for r in results], expected, rtol=3e-7)


def test_a_frozen_weight_stays() -> None:
    assert np.array_equal(run(Frozen(), START), START)


@pytest.mark.parametrize("keyword", catalog("dlc.compiler.optimizers", Optimizer))
def test_a_weight_without_gradient_and_value_stays_zero(keyword: str) -> None:
    """The zeros that pad packed weights must not move."""
    optimizer = catalog("dlc.compiler.optimizers", Optimizer)[keyword]()
    shape = TensorType((2,))
    values = {name: source(Parameter(name, shape)) for name in optimizer.state()}
    plain = OptimizerScalars(source(Input("rate", TensorType(()))), source(Input("step", TensorType((), DType.UINT32))))
    scalars = OptimizerScalars(plain.rate, plain.step, optimizer.shared(plain))
    moved, _ = optimizer.update(source(Parameter("w", shape)), source(Input("g", shape)), values, scalars)
    feeds = {"w": np.zeros(2), "g": np.zeros(2), "rate": np.float64(0.1), "step": np.uint32(0)}

    (result,) = evaluate([moved], {**feeds, **{n: np.full(2, v) for n, v in optimizer.state().items()}})

    assert not result.any()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Sgd(-0.1), "lr"),
        (lambda: Sgd(0.1, 1.0), "momentum"),
        (lambda: Sgd(0.1, nesterov=True), "nesterov"),
        (lambda: Adam(beta1=1.0), "beta1"),
        (lambda: Adam(eps=0.0), "eps"),
        (lambda: AdamW(weight_decay=-1.0), "weight_decay"),
        (lambda: AdaGrad(eps=0.0), "eps"),
        (lambda: RmsProp(decay=1.0), "decay"),
        (lambda: Rprop(up=0.9), "up"),
        (lambda: Rprop(least=60.0), "least"),
    ],
)
def test_a_wrong_argument_is_named(make: Callable[[], Optimizer], field: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make()

    assert caught.value.field == field
