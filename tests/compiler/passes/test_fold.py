"""Folding: what depends on weights alone becomes weights."""

import numpy as np

from dlc.compiler.ir import Graph
from dlc.compiler.ops import elementwise as e
from dlc.compiler.ops.convolution import conv2d
from dlc.compiler.ops.functions import relu
from dlc.compiler.ops.shape import reshape
from dlc.compiler.passes import FoldConstants


def weights_of(graph, random):
    return {v.op.key: abs(random(*v.type.shape)) + np.float32(0.1) for v in graph.parameters}


def test_products_and_sums_of_weights_are_computed_once(image, weight, random, change, same):
    x, s = image(5, 5, 3), weight("s", 4)
    y = e.add(conv2d(x, e.multiply(weight("w", 4, 3, 3, 3), 2.0)), e.multiply(weight("b", 4), s))
    before = Graph("g", (x,), {"y": e.multiply(relu(y), s)})
    weights = weights_of(before, random)
    after, folded = FoldConstants()(before, weights)

    change(before, after, "constants_folded")
    assert sorted(folded) == ["derived.0", "derived.1", "s"]
    same(before, after, weights, folded)


def test_what_weights_become_is_called_after_the_layer(image, weight, random):
    x = image(3)
    doubled = e.add(weight("w", 3), 1.0)
    labelled = type(doubled)(doubled.op, doubled.operands, doubled.type, None, "norm")
    _, folded = FoldConstants()(Graph("g", (x,), {"y": e.add(x, labelled)}), {"w": np.ones(3, np.float32)})

    assert list(folded) == ["derived.norm.0"]


def test_weights_that_training_updates_are_not_folded(image, weight):
    x, w, s = image(5, 5, 3), weight("w", 4, 3, 3, 3), weight("s", 4)
    before = Graph("g", (x,), {"y": conv2d(x, e.multiply(w, reshape(s, (4, 1, 1, 1))))}, {s: e.multiply(s, 0.9)})
    after, kept = FoldConstants()(before, {"w": np.ones((4, 3, 3, 3), np.float32), "s": np.ones(4, np.float32)})

    assert sorted(kept) == ["s", "w"]
    assert [v.op.name for v in after.values].count("multiply") == 2


def test_an_output_made_of_weights_is_a_weight(weight, random):
    graph = Graph("g", (), {"y": e.add(weight("a", 3), weight("b", 3))})
    weights = weights_of(graph, random)
    after, folded = FoldConstants()(graph, weights)

    assert after.outputs["y"].op.key == "derived.0"
    np.testing.assert_array_equal(folded["derived.0"], (weights["a"].astype(float) + weights["b"]).astype(np.float32))
