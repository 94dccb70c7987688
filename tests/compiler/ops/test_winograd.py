"""Winograd convolutions: the transforms, the errors they round to, and the kernels against float64 on every edge."""

from fractions import Fraction

import numpy as np
import pytest

from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.object_code import compile_functions
from dlc.compiler.codegen.target import Target
from dlc.compiler.ir import Graph, Input, N, ShapeError, TensorType, apply, source
from dlc.compiler.ops.convolution import Conv2d, Conv2dInputGradient
from dlc.compiler.ops.cook_toom import array, transforms
from dlc.compiler.ops.elementwise import add
from dlc.compiler.ops.functions import relu
from dlc.compiler.ops.winograd import WinogradConv2d, WinogradWeights
from dlc.runtime.executor import Executor

FILTERS = ((2, 3), (3, 3), (4, 3), (6, 3), (2, 5), (4, 5))


@pytest.mark.parametrize(("outputs", "taps"), FILTERS)
def test_the_transforms_filter_exactly(outputs, taps):
    matrices = transforms(outputs, taps)
    data = [Fraction(3 * i * i - 7, i + 2) for i in range(outputs + taps - 1)]
    weights = [Fraction(i + 1, 3) for i in range(taps)]

    def times(matrix, vector):
        return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]

    products = [a * b for a, b in zip(times(matrices.inputs, data), times(matrices.filter, weights), strict=True)]
    expected = [sum(data[i + k] * weights[k] for k in range(taps)) for i in range(outputs)]

    assert times(matrices.outputs, products) == expected


def test_a_filter_without_points_enough_is_refused():
    with pytest.raises(ValueError, match="9 points"):
        transforms(6, 5)


def given(name, *shape):
    return source(Input(name, TensorType(shape)))


def convolved(op, tile, image, block, packed=0):
    """Conv2d by tiles as a graph of image, weight, bias and residual, with what the kernels fuse behind it."""
    x = given("x", N, *image)
    factors = WinogradWeights(op.channels, image[2], op.kernel[0], tile, block, packed)
    weight = given("w", *factors.weight_shape)
    y = apply(WinogradConv2d(op.channels, op.kernel[0], op.padding, tile), x, apply(factors, weight))
    bias, residual = given("b", op.channels), given("r", *y.type.shape)
    return Graph("g", (x, weight, bias, residual), {"y": relu(add(add(y, bias), residual))})


def feeds(graph, batch, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {v.op.key: [batch if d is N else d for d in v.type.shape] for v in graph.inputs}
    return {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}


def run(graph, values, target="cpu", batch=None):
    compiled = compile_graph(graph, Target.parse(target), batch=batch)
    return np.array(Executor(compiled.program, compiled.function, compiled.constants).run(values)["y"])


EDGES = {
    "whole tiles": ((8, 8, 16), 32, (1, 1, 1, 1), 3),
    "odd sizes and channels": ((7, 11, 5), 19, (1, 1, 1, 1), 3),
    "no padding": ((9, 6, 16), 16, (0, 0, 0, 0), 3),
    "padding of two": ((5, 5, 17), 33, (2, 2, 2, 2), 3),
    "uneven padding": ((6, 9, 8), 8, (2, 0, 1, 2), 3),
    "one pixel": ((1, 1, 16), 16, (1, 1, 1, 1), 3),
    "one result": ((3, 3, 20), 48, (0, 0, 0, 0), 3),
    "a row": ((1, 30, 16), 16, (1, 1, 1, 1), 3),
    "many tiles in a row": ((6, 75, 16), 32, (1, 1, 1, 1), 3),
    "kernel of five": ((7, 9, 16), 16, (2, 2, 2, 2), 5),
}


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("tile", [2, 4])
def test_kernels_agree_with_the_direct_convolution_in_float64(name, tile):
    image, channels, padding, kernel = EDGES[name]
    op = Conv2d(channels, (kernel, kernel), padding=padding)
    graph = convolved(op, tile, image, 16)

    for batch in (1, 3):
        values = feeds(graph, batch)
        exact = {k: a.astype(np.float64) for k, a in values.items()}
        expected = np.maximum(op.reference(exact["x"], exact["w"]) + exact["b"] + exact["r"], 0)

        assert np.abs(run(graph, values) - expected).max() <= 3e-5 * np.abs(expected).max()


@pytest.mark.parametrize("tile", [3, 6])
def test_other_tiles_fixed_batches_and_short_vectors_agree_too(tile):
    op = Conv2d(20, (3, 3), padding=(1, 1, 1, 1))
    graph = convolved(op, tile, (13, 10, 12), 16, packed=8)
    values = feeds(graph, 5)
    exact = [values[k].astype(np.float64) for k in ("x", "w", "b", "r")]
    weight = exact[1].transpose(0, 4, 3, 1, 2).reshape(-1, 12, 3, 3)[:20]
    expected = np.maximum(op.reference(exact[0], weight) + exact[2] + exact[3], 0)
    bound = 3e-5 * np.abs(expected).max()

    assert np.abs(run(graph, values, batch=None) - expected).max() <= bound
    fixed = Graph("g", tuple(given(v.op.key, *values[v.op.key].shape) for v in graph.inputs), {})
    x, weight, bias, residual = fixed.inputs
    y = apply(WinogradConv2d(20, 3, op.padding, tile), x, apply(WinogradWeights(20, 12, 3, tile, 16, 8), weight))
    fixed = Graph("g", fixed.inputs, {"y": relu(add(add(y, bias), residual))})
    assert np.abs(run(fixed, values, target="x86-64-v3", batch=5) - expected).max() <= bound


@pytest.mark.parametrize("packed", [0, 8])
def test_turned_weights_give_the_gradient_by_the_input(packed):
    op = Conv2d(12, (3, 3), padding=(1, 1, 0, 0), block=packed)
    by_input = Conv2dInputGradient(**op.attributes(), input_size=(9, 8, 20))
    rng = np.random.default_rng(3)
    weight = rng.standard_normal(op.weight_shape(20))
    upstream = rng.standard_normal((2, *op.output_size(9, 8), 12))

    factors = WinogradWeights(20, 12, 3, 4, 16, packed, turned=True).reference(weight)
    got = WinogradConv2d(20, 3, (1, 1, 2, 2), 4).reference(upstream, factors)

    np.testing.assert_allclose(got, by_input.reference(upstream, weight), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("tile", "bound"), [(2, 2e-6), (4, 1e-5), (6, 2e-5)])
def test_rounding_stays_small_for_images_after_a_relu(tile, bound):
    """As in a network: images not below zero, weights scaled as He's initialisation scales them."""
    rng = np.random.default_rng(0)
    image = np.maximum(rng.standard_normal((1, 18, 18, 256)), 0)
    weight = rng.standard_normal((32, 256, 3, 3)) * np.sqrt(2 / (9 * 256))
    expected = Conv2d(32, (3, 3), padding=(1, 1, 1, 1)).reference(image, weight)

    factors = WinogradWeights(32, 256, 3, tile, 32).reference(weight).astype(np.float32)
    got = WinogradConv2d(32, 3, (1, 1, 1, 1), tile).reference(image.astype(np.float32), factors)

    assert np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)) < bound


@pytest.mark.parametrize("target", ["x86-64-v3", "aarch64"])
def test_code_is_made_for_other_processors(target):
    graph = convolved(Conv2d(24, (3, 3), padding=(1, 1, 1, 1)), 4, (10, 12, 16), 8)

    parsed = Target.parse(target)
    scheduled = compile_graph(graph, parsed).functions

    assert compile_functions(scheduled, parsed, lambda done: None).keys() >= scheduled.keys()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="the weight is"):
        apply(WinogradWeights(8, 4, 3, 4, 8), given("w", 8, 5, 3, 3))
    with pytest.raises(ShapeError, match="the weight is"):
        apply(WinogradConv2d(8, 3, (1, 1, 1, 1), 4), given("x", N, 5, 5, 4), given("u", 16, 1, 4, 8))


def test_the_matrices_of_the_literature_come_out():
    """F(4x4, 3x3) of Lavin and Gray."""
    matrices = transforms(4, 3)

    assert array(matrices.filter, np.float64)[3].tolist() == [1 / 24, 1 / 12, 1 / 6]
    assert array(matrices.inputs, np.float64)[0].tolist() == [4, 0, -5, 0, 1, 0]
    assert array(matrices.outputs, np.float64)[3].tolist() == [0, 1, -1, 8, -8, 1]
