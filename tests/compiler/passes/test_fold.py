"""Folding: what depends on weights alone becomes weights."""

import numpy as np

from dlc.compiler.ir import Graph
from dlc.compiler.ops import elementwise as e
from dlc.compiler.ops.convolution import conv2d
from dlc.compiler.ops.functions import relu
from dlc.compiler.ops.linear import linear
from dlc.compiler.ops.normalization import batch_norm_inference
from dlc.compiler.passes import FoldBatchNorm, FoldConstants


def norm(weight, x, channels=4, name="bn"):
    gamma, beta, centre, variance = (weight(f"{name}.{k}", channels) for k in ("weight", "bias", "mean", "variance"))
    return batch_norm_inference(x, gamma, beta, centre, variance)


def weights_of(graph, random):
    return {v.op.key: abs(random(*v.type.shape)) + np.float32(0.1) for v in graph.parameters}


def fold(graph, weights):
    return FoldConstants()(FoldBatchNorm()(graph), weights)


def test_batch_norm_ends_up_in_the_convolution_before_it(image, weight, random, change, same):
    x = image(5, 5, 3)
    before = Graph("g", (x,), {"y": relu(norm(weight, conv2d(x, weight("w", 4, 3, 3, 3), padding=1)))})
    weights = weights_of(before, random)
    after, folded = fold(before, weights)

    change(before, after, "batch_norm_folded")
    assert sorted(folded) == ["derived.0", "derived.1"]
    same(before, after, weights, folded)


def test_the_bias_before_a_batch_norm_joins_its_shift(image, weight, random, same):
    x = image(5, 5, 3)
    y = e.add(conv2d(x, weight("w", 4, 3, 3, 3)), weight("b", 4))
    before = Graph("g", (x,), {"y": e.divide(e.subtract(norm(weight, y), weight("c", 4)), weight("s", 4))})
    weights = weights_of(before, random)
    after, folded = fold(before, weights)

    assert [v.op.name for v in after.values if v.operands] == ["conv2d", "add"]
    same(before, after, weights, folded)


def test_linear_layers_fold_too(weight, random, same, image):
    x = image(6)
    before = Graph("g", (x,), {"y": norm(weight, linear(x, weight("w", 4, 6)))})
    weights = weights_of(before, random)
    after, folded = fold(before, weights)

    assert [v.op.name for v in after.values if v.operands] == ["linear", "add"]
    same(before, after, weights, folded)


def test_a_convolution_that_others_read_keeps_its_weights(image, weight, random, same):
    x = image(5, 5, 3)
    shared = conv2d(x, weight("w", 4, 3, 3, 3))
    before = Graph("g", (x,), {"y": norm(weight, shared), "z": relu(shared)})
    weights = weights_of(before, random)
    after, folded = fold(before, weights)

    assert "w" in folded
    assert [v.op.name for v in after.values].count("conv2d") == 1
    same(before, after, weights, folded)


def test_one_weight_in_two_convolutions_folds_for_each(image, weight, random, same):
    x, w = image(5, 5, 4), weight("w", 4, 4, 1, 1)
    first = norm(weight, conv2d(x, w), name="bn1")
    before = Graph("g", (x,), {"y": norm(weight, conv2d(relu(first), w), name="bn2")})
    weights = weights_of(before, random)
    after, folded = fold(before, weights)

    assert "w" not in folded
    same(before, after, weights, folded)


def test_a_norm_before_its_convolution_stays(image, weight, random, same):
    x = image(5, 5, 4)
    before = Graph("g", (x,), {"y": conv2d(relu(norm(weight, x)), weight("w", 2, 4, 3, 3))})
    weights = weights_of(before, random)
    after, folded = fold(before, weights)

    assert [v.op.name for v in after.values if v.operands] == ["multiply", "add", "relu", "conv2d"]
    same(before, after, weights, folded)


def test_weights_that_training_updates_are_not_folded(image, weight):
    x, w, s = image(5, 5, 3), weight("w", 4, 3, 3, 3), weight("s", 4)
    before = Graph("g", (x,), {"y": e.multiply(conv2d(x, w), s)}, {s: e.multiply(s, 0.9)})
    after, kept = FoldConstants()(
        FoldBatchNorm()(before), {"w": np.ones((4, 3, 3, 3), np.float32), "s": np.ones(4, np.float32)}
    )

    assert sorted(kept) == ["s", "w"]
    assert [v.op.name for v in after.values if v.operands] == ["conv2d", "multiply", "multiply"]


def test_an_output_made_of_weights_is_a_weight(weight, random):
    graph = Graph("g", (), {"y": e.add(weight("a", 3), weight("b", 3))})
    weights = weights_of(graph, random)
    after, folded = FoldConstants()(graph, weights)

    assert after.outputs["y"].op.key == "derived.0"
    np.testing.assert_array_equal(folded["derived.0"], (weights["a"].astype(float) + weights["b"]).astype(np.float32))
