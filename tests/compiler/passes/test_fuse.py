"""Fusing: which values become one kernel, in which order kernels run; and what is computed again instead of stored."""

import pytest

from dlc.compiler.autodiff import gradients
from dlc.compiler.ir import Graph, Input, N, TensorType, source
from dlc.compiler.ops import elementwise as e
from dlc.compiler.ops.convolution import conv2d
from dlc.compiler.ops.functions import exp, relu, tanh
from dlc.compiler.ops.linear import linear
from dlc.compiler.ops.normalization import batch_norm_training
from dlc.compiler.ops.pooling import max_pool
from dlc.compiler.ops.reduction import mean, reduce_max, reduce_sum
from dlc.compiler.ops.rounding import round_to
from dlc.compiler.ops.shape import reshape, transpose
from dlc.compiler.passes import Fuse, Recompute, Simplify


def kernels(graph):
    found = Fuse()(graph)
    check_order(graph, found)
    return [k.what for k in found]


def check_order(graph, found):
    """Every computed value is in one kernel, and each kernel reads only what is there."""
    from dlc.compiler.passes.fuse import root

    ready = {v for v in graph.values if v.op.fusion.name == "SOURCE"}
    for kernel in found:
        assert all(root(v) in ready for v in kernel.inputs)
        assert not ready & set(kernel.body)
        ready |= set(kernel.results)
    assert {root(v) for v in (*graph.outputs.values(), *graph.updates.values())} <= ready


@pytest.fixture
def conv(weight):
    return lambda x, key, channels=4: conv2d(x, weight(key, channels, x.type.shape[3], 3, 3), padding=1)


def test_the_residual_block_is_two_kernels(image, weight, conv):
    x = image(6, 6, 4)
    y = relu(e.add(conv(x, "w1"), weight("b1", 4)))
    y = relu(e.add(e.add(conv(y, "w2"), weight("b2", 4)), x))

    assert kernels(Graph("g", (x,), {"y": y})) == ["conv2d+add+relu", "conv2d+add+add+relu"]


def test_a_rounded_result_that_is_read_unrounded_too_can_be_a_second_result(image, weight, conv):
    x = image(6, 6, 4)
    y = relu(conv(x, "w1"))
    graph = Graph("g", (x,), {"y": e.add(conv(round_to(y, 11), "w2"), y)})

    assert kernels(graph) == ["conv2d+relu", "round", "conv2d+add"]

    beside = Fuse(rounds_beside=True)(graph)
    check_order(graph, beside)
    assert [k.what for k in beside] == ["conv2d+relu+round", "conv2d+add"]
    assert [v.op.name for v in beside[0].results] == ["relu", "round"]


def test_of_two_convolutions_that_are_added_the_later_takes_the_sum(image, weight, conv):
    x = image(6, 6, 4)
    y = relu(e.add(e.add(conv(x, "w1"), weight("b1", 4)), e.add(conv(x, "w2"), weight("b2", 4))))

    assert sorted(kernels(Graph("g", (x,), {"y": y}))) == ["conv2d+add", "conv2d+add+add+relu"]


def test_a_value_that_is_used_twice_behind_a_convolution_stays_inside(image, conv):
    x = image(6, 6, 4)
    y = conv(x, "w")

    assert kernels(Graph("g", (x,), {"y": e.multiply(y, tanh(y))})) == ["conv2d+tanh+multiply"]


def test_what_an_output_or_another_kernel_reads_ends_the_epilogue(image, conv):
    x = image(6, 6, 4)
    y = conv(x, "w")
    z = relu(y)

    assert kernels(Graph("g", (x,), {"y": y, "z": z})) == ["conv2d", "relu"]
    assert kernels(Graph("g", (x,), {"z": tanh(z), "p": max_pool(z, 2)})) == ["conv2d+relu", "tanh", "max_pool"]


def test_small_side_inputs_come_along(image, conv, weight):
    x = image(6, 6, 4)
    mask = e.greater(x, 0.0)

    assert kernels(Graph("g", (x,), {"y": e.where(mask, conv(x, "w"), 0.0)})) == ["greater+conv2d+where"]


def test_views_end_kernels_and_cost_none(image, conv):
    x = image(6, 6, 4)
    y = reshape(conv(x, "w"), (N, 144))

    assert kernels(Graph("g", (x,), {"y": relu(y)})) == ["conv2d", "relu"]


def test_elementwise_producers_go_into_the_reduction_that_alone_reads_them(image):
    x = image(5, 7)
    y = exp(x)

    assert kernels(Graph("g", (x,), {"y": reduce_sum(y, (1,))})) == ["exp+sum"]
    assert kernels(Graph("g", (x,), {"y": reduce_sum(y, (1,)), "z": reduce_max(y, (2,))})) == ["exp", "sum", "max"]


def test_part_of_an_elementwise_kernel_can_go_into_a_reduction(image):
    x = image(5, 7)
    y = tanh(x)

    assert kernels(Graph("g", (x,), {"y": y, "z": mean(exp(y), (1,))})) == ["tanh", "exp+mean"]


def test_moves_fuse_with_the_arithmetic_around_them(image):
    x = image(4, 5, 3)

    assert kernels(Graph("g", (x,), {"y": relu(transpose(tanh(x), (0, 3, 1, 2)))})) == ["tanh+transpose+relu"]


def test_an_optimizers_update_is_one_kernel_with_several_results(weight):
    p, m, g = weight("p", 8, 3), weight("m", 8, 3), source(Input("g", TensorType((8, 3))))
    moved = e.add(e.multiply(m, 0.9), g)
    (kernel,) = Fuse()(Graph("g", (g,), {}, {p: e.subtract(p, e.multiply(moved, 0.1)), m: moved}))

    assert kernel.what == "multiply+add+multiply+subtract"
    assert len(kernel.results) == 2


def test_kernels_do_not_wait_for_each_other(image, conv):
    x = image(6, 6, 4)
    y = tanh(x)
    z = conv(y, "w")

    assert kernels(Graph("g", (x,), {"y": e.add(relu(y), z)})) == ["tanh", "relu+conv2d+add"]
    assert kernels(Graph("g", (x,), {"y": e.multiply(y, reduce_sum(z, (1, 2, 3), keep=True))})) == [
        "tanh",
        "conv2d",
        "sum",
        "multiply",
    ]


def test_expressions_that_would_grow_without_end_are_cut(image):
    x = y = image(5)
    for _ in range(12):
        y = e.multiply(y, e.add(y, 1.0))

    assert len(kernels(Graph("g", (x,), {"y": y}))) > 1


def training_graph(weight):
    x = source(Input("x", TensorType((4, 6, 6, 3))))
    w, gamma, beta, out = weight("w", 8, 3, 3, 3), weight("gamma", 8), weight("beta", 8), weight("out", 5, 8)
    y = conv2d(x, w, padding=1)
    y = relu(batch_norm_training(y, gamma, beta)[0])
    y = linear(mean(y, (1, 2)), out)
    loss = mean(e.multiply(y, y), (0, 1))
    found = gradients(loss, [w, gamma, beta, out])
    updates = {p: e.subtract(p, e.multiply(g, 0.1)) for p, g in zip([w, gamma, beta, out], found, strict=True)}
    return Graph("training", (x,), {"loss": loss}, updates)


def test_the_kernels_of_a_training_step(weight, golden):
    graph = Recompute()(Simplify(expand_norms=True)(training_graph(weight)))
    check_order(graph, Fuse()(graph))
    lines = [f"{k.what:<60} -> {', '.join(str(r.type) for r in k.results)}" for k in Fuse()(graph)]

    golden("\n".join(lines), "passes/training_kernels.txt")


def test_cheap_values_that_several_kernels_read_are_computed_in_each(weight, change):
    x = source(Input("x", TensorType((4, 6))))
    centred = e.subtract(tanh(x), weight("mean", 6))
    before = Graph("g", (x,), {"t": tanh(x), "a": reduce_sum(centred, (0,)), "b": exp(centred)})
    before = Simplify()(before)

    change(before, Recompute()(before), "recomputed")


def test_costly_values_and_those_that_contractions_read_are_stored(weight):
    x = source(Input("x", TensorType((4, 6))))
    y = relu(e.add(x, weight("b", 6)))
    graph = Graph(
        "g", (x,), {"a": linear(y, weight("w", 3, 6)), "b": exp(y), "c": reduce_sum(exp(x), (1,)), "d": exp(x)}
    )
    graph = Simplify()(graph)

    assert [v.op.name for v in Recompute()(graph).values].count("relu") == 1
    assert [v.op.name for v in Recompute()(graph).values].count("exp") == 2
