"""Gradients of convolutions' weights by tiles: the kernels against float64 on every edge, and the order of their sums."""

import numpy as np
import pytest

from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.object_code import compile_functions
from dlc.compiler.codegen.target import Target
from dlc.compiler.ir import Graph, Input, Parameter, ShapeError, TensorType, apply, source
from dlc.compiler.ops.elementwise import add, multiply
from dlc.compiler.ops.winograd_gradient import WinogradWeightGradient
from dlc.runtime.executor import Executor

EDGES = {
    "whole tiles": (WinogradWeightGradient(32, 3, (1, 1, 1, 1), 4, 32, 16), (8, 8), 3),
    "odd sizes and channels": (WinogradWeightGradient(19, 3, (1, 1, 1, 1), 4, 16, 5), (7, 11), 2),
    "uneven padding, many channels": (WinogradWeightGradient(80, 3, (2, 0, 1, 2), 3, 16, 48), (6, 9), 1),
    "images in parts": (WinogradWeightGradient(16, 3, (0, 0, 0, 0), 4, 16, 16), (9, 6), 6),
    "one pixel": (WinogradWeightGradient(48, 3, (1, 1, 1, 1), 2, 48, 32), (1, 1), 1),
    "kernel of five": (WinogradWeightGradient(40, 5, (2, 2, 2, 2), 2, 16, 36), (7, 9), 3),
}


def given(name, *shape):
    return source(Input(name, TensorType(shape)))


def graph_of(op, size, batch, *, momentum=False):
    """The gradient of image "x" and upstream "u" as "y"; with `momentum`, added to what "v" holds."""
    x = given("x", batch, *size, op.in_channels)
    upstream = given("u", batch, *op.direct.output_size(*size), op.channels)
    gradient = apply(op, x, upstream)
    if not momentum:
        return Graph("g", (x, upstream), {"y": gradient})
    velocity = source(Parameter("v", gradient.type))
    return Graph("g", (x, upstream), {}, {velocity: add(multiply(velocity, 0.5), gradient)})


def feeds(graph, seed=0):
    rng = np.random.default_rng(seed)
    return {v.op.key: rng.standard_normal(v.type.shape).astype(np.float32) for v in graph.inputs}


def exact(op, values):
    return op.direct.reference(values["x"].astype(np.float64), values["u"].astype(np.float64))


def executor_of(graph, batch, threads=None, weights=None):
    compiled = compile_graph(graph, Target.parse("cpu"), batch=batch)
    return Executor(compiled.program, compiled.function, weights or compiled.constants, threads)


@pytest.mark.parametrize("name", EDGES)
def test_the_reference_equals_the_direct_sums(name):
    op, size, batch = EDGES[name]
    values = {k: a.astype(np.float64) for k, a in feeds(graph_of(op, size, batch)).items()}

    np.testing.assert_allclose(op.reference(values["x"], values["u"]), exact(op, values), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", EDGES)
def test_kernels_agree_with_the_direct_sums_in_float64(name):
    op, size, batch = EDGES[name]
    graph = graph_of(op, size, batch)
    values = feeds(graph)
    expected = exact(op, values)

    result = np.array(executor_of(graph, batch).run(values)["y"])

    assert np.abs(result - expected).max() <= 3e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["whole tiles", "images in parts"])
def test_momentum_behind_is_updated_in_place(name):
    op, size, batch = EDGES[name]
    graph = graph_of(op, size, batch, momentum=True)
    values = feeds(graph)
    from dlc.runtime.arrays import aligned_empty

    velocity = aligned_empty(op.infer(*(v.type for v in graph.inputs)).shape, "float32")
    velocity[...] = 3.0

    executor_of(graph, batch, weights={"v": velocity}).run(values)

    expected = 1.5 + exact(op, values)
    assert np.abs(velocity - expected).max() <= 3e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["odd sizes and channels", "images in parts"])
def test_sums_do_not_depend_on_the_number_of_threads(name):
    op, size, batch = EDGES[name]
    graph = graph_of(op, size, batch)
    values = feeds(graph)
    executor = executor_of(graph, batch)

    results = []
    for threads in (1, 2):
        executor.threads = threads
        results.append(np.array(executor.run(values)["y"]))

    np.testing.assert_array_equal(results[0], results[1])


def test_rounding_stays_small_where_many_tiles_are_summed():
    op = WinogradWeightGradient(16, 3, (1, 1, 1, 1), 4, 16, 16)
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((8, 56, 56, 16)), 0)
    upstream = rng.standard_normal((8, 56, 56, 16))
    expected = op.direct.reference(x, upstream)

    got = op.reference(x.astype(np.float32), upstream.astype(np.float32))

    assert np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)) < 1e-5  # as of forward tiles


@pytest.mark.parametrize("target", ["x86-64-v3", "aarch64"])
def test_code_is_made_for_other_processors(target):
    op, size, batch = WinogradWeightGradient(24, 3, (1, 1, 1, 1), 4, 8, 12), (10, 12), 2

    parsed = Target.parse(target)
    scheduled = compile_graph(graph_of(op, size, batch), parsed, batch=batch).functions

    assert compile_functions(scheduled, parsed, lambda done: None).keys() >= scheduled.keys()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="the gradient is"):
        apply(WinogradWeightGradient(8, 3, (1, 1, 1, 1), 4, 8, 4), given("x", 2, 5, 5, 4), given("u", 2, 5, 4, 8))
    with pytest.raises(ShapeError, match="is packed"):
        apply(WinogradWeightGradient(8, 3, (1, 1, 1, 1), 4, 0, 4), given("x", 2, 5, 5, 4), given("u", 2, 5, 5, 8))
