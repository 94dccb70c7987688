"""What every operator keeps: a docstring, samples, a shape rule that its reference follows, a true gradient."""

import dataclasses
import inspect

import numpy as np
import pytest

from dlc.compiler.autodiff import gradients
from dlc.compiler.interpret import bind_batch, evaluate
from dlc.compiler.ir import DType, Input, NotDifferentiable, Sample, Value, apply, source
from dlc.compiler.ops import multiply, reduce_sum
from dlc.compiler.ops.samples import arrays, bound, cases, operators

CASES = dict(cases())
OPERATORS = {op.__name__: op for op in operators()}


@pytest.mark.parametrize("op", OPERATORS.values(), ids=OPERATORS)
def test_an_operator_is_documented_frozen_and_has_samples(op):
    assert op.__doc__ and not op.__doc__.startswith(f"{op.__name__}(")
    assert dataclasses.is_dataclass(op) and op.__dataclass_params__.frozen
    assert list(op.samples()), "no samples"
    assert all(type(sample.op) is op for sample in op.samples())


def test_the_operators_are_found():
    assert {"Add", "Conv2d", "MaxPoolGradient", "RandomUniform", "Repack", "BatchNorm"} <= OPERATORS.keys()
    assert not any(inspect.isabstract(op) for op in OPERATORS.values())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_the_reference_follows_the_shape_rule(name, batch):
    sample = CASES[name]
    operands = arrays(sample, batch)

    inferred = bound(sample.op.infer(*sample.operands), batch)
    result = bind_batch(sample.op, batch).reference(*operands)

    assert result.shape == inferred.shape
    assert result.dtype == inferred.dtype.numpy


@pytest.mark.parametrize("name", CASES)
def test_the_reference_keeps_double_precision(name):
    sample = CASES[name]
    single = bind_batch(sample.op, 3).reference(*arrays(sample, 3))
    double = bind_batch(sample.op, 3).reference(*arrays(sample, 3, precision=DType.FLOAT64))

    if single.dtype == np.float32 and any(o.dtype.is_float for o in sample.operands):
        assert double.dtype == np.float64
    np.testing.assert_allclose(double, single, rtol=1e-4, atol=1e-4)


def inputs(sample: Sample, batch: int) -> list[Value]:
    return [source(Input(f"x{i}", bound(t, batch))) for i, t in enumerate(sample.operands)]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", [n for n, s in CASES.items() if s.differentiable])
def test_the_gradient_equals_finite_differences(name, batch):
    sample = CASES[name]
    operands = inputs(sample, batch)
    floats = [i for i, o in enumerate(operands) if o.type.dtype.is_float]
    data = arrays(sample, batch, precision=DType.FLOAT64)
    result = apply(bind_batch(sample.op, batch), *operands)
    weights = np.random.default_rng(1).uniform(0.5, 1.5, result.type.shape)
    weighted = multiply(result, source(Input("weights", result.type)))
    loss = reduce_sum(weighted, range(weighted.type.rank)) if weighted.type.rank else weighted
    feeds = {f"x{i}": a for i, a in enumerate(data)} | {"weights": weights}

    computed = evaluate(gradients(loss, [operands[i] for i in floats]), feeds)

    generator = np.random.default_rng(2)
    for index, gradient in zip(floats, computed, strict=True):
        assert gradient.shape == data[index].shape
        for _ in range(3):
            direction = generator.uniform(-1, 1, data[index].shape)
            step = 1e-6 * min(1.0, float(np.abs(data[index]).max(initial=1e-6)) or 1.0)
            ahead, behind = (
                evaluate([loss], feeds | {f"x{index}": data[index] + sign * step * direction})[0] for sign in (1, -1)
            )
            slope = (ahead - behind) / (2 * step)
            np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=2e-5, atol=1e-6)


def test_an_operator_without_a_gradient_says_so():
    for op in operators():
        for sample in op.samples():
            operands = inputs(sample, 3)
            result = apply(bind_batch(sample.op, 3), *operands)
            if not sample.differentiable or not result.type.dtype.is_float:
                continue
            try:
                given = result.op.gradient(result, source(Input("upstream", result.type)))
            except NotDifferentiable as error:
                pytest.fail(f"{op.__name__} claims to be differentiable: {error}")
            assert len(given) == len(operands)
