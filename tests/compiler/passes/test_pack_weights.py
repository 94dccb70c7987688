"""Packing: weights get the kernels' form, and everything still means the same."""

import pytest

from dlc.compiler.ir import DType, Graph, Input, TensorType, source
from dlc.compiler.ops import elementwise as e
from dlc.compiler.ops.convolution import conv2d
from dlc.compiler.ops.functions import relu
from dlc.compiler.ops.linear import linear
from dlc.compiler.ops.reduction import reduce_sum
from dlc.compiler.ops.shape import flatten
from dlc.compiler.passes import PackWeights
from dlc.compiler.passes.pack_weights import weight_block


def weights_of(graph, random):
    return {v.op.key: random(*v.type.shape) for v in graph.parameters}


def network(image, weight):
    x = image(6, 4, 3)
    y = relu(e.add(conv2d(x, weight("conv.weight", 20, 3, 3, 3), padding=1), weight("conv.bias", 20)))
    y = linear(flatten(y), weight("fc.weight", 10, 480))
    return Graph("g", (x,), {"y": linear(relu(y), weight("out.weight", 5, 10))})


@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
def test_packed_weights_compute_the_same(image, weight, random, same, lanes):
    before = network(image, weight)

    same(before, PackWeights(lanes)(before), weights_of(before, random))


def test_blocks_may_be_given(image, weight, random, same):
    before = network(image, weight)

    after = PackWeights(16, 32)(before)

    same(before, after, weights_of(before, random))
    assert {v.type.shape[-1] for v in after.parameters if v.op.layout} == {32}


def test_what_packing_does_to_a_network(image, weight, change):
    before = network(image, weight)

    change(before, PackWeights(16)(before), "packed")


def test_flattening_before_a_linear_layer_becomes_a_view_even_unpacked(image, weight):
    after = PackWeights(1)(network(image, weight))

    assert "flatten" not in [v.op.name for v in after.values]
    assert after.outputs["y"].op.block == 0


def test_with_one_lane_input_channels_lie_side_by_side(image, weight):
    x = image(5, 5, 6)
    y = conv2d(conv2d(x, weight("large", 8, 6, 3, 3)), weight("small", 4, 8, 1, 1))

    after = PackWeights(1)(Graph("g", (x,), {"y": y}))

    shapes = {v.op.key: v.type.shape for v in after.parameters}
    assert shapes == {"large": (8, 3, 3, 6, 1), "small": (4, 8, 1, 1)}


@pytest.mark.parametrize(
    ("lanes", "channels", "block"),
    [(16, 1, 16), (16, 64, 32), (16, 10, 16), (16, 48, 48), (16, 96, 32), (8, 64, 16), (4, 64, 16), (4, 3, 4)],
)
def test_blocks_waste_little(lanes, channels, block):
    assert weight_block(lanes, channels) == block


def test_groups_are_packed_only_where_blocks_do_not_cross_them(image, weight, random, same):
    x = image(5, 5, 64)
    wide = conv2d(x, weight("wide", 64, 32, 1, 1), groups=2)
    before = Graph("g", (x,), {"y": conv2d(wide, weight("depthwise", 64, 1, 3, 3), groups=64)})
    after = PackWeights(16)(before)

    assert {v.op.key: v.op.layout is not None for v in after.parameters} == {"wide": True, "depthwise": False}
    same(before, after, weights_of(before, random))


def test_a_weight_that_others_read_keeps_its_form(image, weight):
    x, w = image(5, 5, 3), weight("w", 4, 3, 3, 3)
    graph = Graph("g", (x,), {"y": conv2d(x, w), "penalty": reduce_sum(e.multiply(w, w), (0, 1, 2, 3))})

    assert PackWeights(16)(graph).parameters == (w,)


def test_two_users_of_one_weight_share_its_packed_form(image, weight, random, same):
    x, w = image(5, 5, 3), weight("w", 3, 3, 1, 1)
    before = Graph("g", (x,), {"y": conv2d(relu(conv2d(x, w)), w)})
    after = PackWeights(16)(before)

    (packed,) = after.parameters
    assert packed.op.layout is not None
    same(before, after, weights_of(before, random))


def test_dropout_between_flattening_and_linear_leaves_the_layout_as_it_is_without(image, weight, random, same):
    x, w = image(3, 2, 4), weight("w", 10, 24)
    plain = Graph("g", (x,), {"y": linear(flatten(x), w)})
    keep = source(Input("keep", TensorType((1, 24), DType.FLOAT32)))
    dropped = Graph("g", (x, keep), {"y": linear(e.multiply(flatten(x), keep), w)})

    packed = PackWeights(16)(dropped)
    assert packed.parameters[0].op.layout == PackWeights(16)(plain).parameters[0].op.layout
    same(dropped, packed, weights_of(dropped, random), batch=1)
