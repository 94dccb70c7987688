"""Simplify: what changes nothing goes, and what stays means the same."""

import numpy as np
import pytest

from dlc.compiler.ir import Graph, Input, N, TensorType, source
from dlc.compiler.ops import elementwise as e
from dlc.compiler.ops.functions import detach, relu, sqrt, tanh
from dlc.compiler.ops.normalization import batch_norm_training
from dlc.compiler.ops.shape import broadcast_to, flatten, reshape, transpose
from dlc.compiler.passes import Simplify


def graph(*outputs):
    inputs = tuple(
        dict.fromkeys(v for o in outputs for v in Graph("g", (), {"o": o}).values if isinstance(v.op, Input))
    )
    return Graph("g", inputs, {f"y{i}": o for i, o in enumerate(outputs)})


@pytest.mark.parametrize(
    "neutral",
    [
        lambda x: e.multiply(x, 1.0),
        lambda x: e.multiply(1.0, x),
        lambda x: e.add(x, 0.0),
        lambda x: e.add(0.0, x),
        lambda x: e.subtract(x, 0.0),
        lambda x: e.divide(x, 1.0),
        lambda x: e.power(x, 1.0),
        lambda x: detach(x),
        lambda x: transpose(transpose(x, (0, 2, 3, 1)), (0, 3, 1, 2)),
        lambda x: reshape(reshape(x, (N, 40)), (N, 2, 4, 5)),
        lambda x: e.cast(x, x.type.dtype),
    ],
)
def test_what_changes_nothing_goes(neutral):
    x = source(Input("x", TensorType((N, 2, 4, 5))))

    assert Simplify()(graph(tanh(neutral(x)))).outputs["y0"].operands == (x,)


def test_an_operand_that_stretches_the_other_stays():
    x, zeros = source(Input("x", TensorType((5,)))), e.constant(np.zeros((3, 5), np.float32))

    assert Simplify()(graph(e.add(x, zeros))).outputs["y0"].type.shape == (3, 5)


def test_one_channel_images_turn_without_moving(change, same):
    x = source(Input("x", TensorType((N, 1, 4, 5))))
    before = graph(relu(transpose(x, (0, 2, 3, 1))))
    after = Simplify()(before)

    change(before, after, "one_channel")
    same(before, after, {})


def test_views_of_views_and_turns_of_turns_become_one(change, same):
    x = source(Input("x", TensorType((N, 2, 4, 6))))
    turned = transpose(transpose(x, (0, 2, 3, 1)), (0, 2, 1, 3))
    before = graph(reshape(reshape(turned, (N, 6, 8)), (N, 48)))
    after = Simplify()(before)

    change(before, after, "views_and_turns")
    same(before, after, {})


def test_flattening_one_pixel_or_one_channel_is_a_view():
    for size in ((1, 1, 7), (3, 5, 1)):
        x = source(Input("x", TensorType((N, *size))))

        assert Simplify()(graph(flatten(x))).outputs["y0"].op.name == "reshape"


def test_powers_become_products_and_roots(same):
    x = source(Input("x", TensorType((N, 5))))
    positive = e.add(e.multiply(x, x), 0.5)
    before = graph(*(e.power(positive, p) for p in (2.0, 3.0, 0.5, 0.75, -0.5, -0.75, -1.0)), e.power(positive, 1.7))
    after = Simplify()(before)

    names = {v.op.name for o in list(after.outputs.values())[:-1] for v in Graph("g", (), {"o": o}).values}
    assert "power" not in names
    assert after.outputs["y7"].op.name == "power"
    same(before, after, {})


def test_broadcasts_before_elementwise_ops_go():
    x, y = source(Input("x", TensorType((N, 4, 3)))), source(Input("y", TensorType((3,))))
    result = Simplify()(graph(e.add(x, broadcast_to(y, (4, 3))))).outputs["y0"]

    assert result.operands == (x, y)


def test_a_broadcast_that_makes_the_shape_stays():
    x, y = source(Input("x", TensorType((3,)))), source(Input("y", TensorType((3,))))
    result = Simplify()(graph(e.add(x, broadcast_to(y, (4, 3))))).outputs["y0"]

    assert result.type.shape == (4, 3)


def test_equal_values_are_computed_once_but_cheap_ones_where_they_are_read():
    x, y = source(Input("x", TensorType((N, 4)))), source(Input("y", TensorType((4,))))
    result = Simplify()(
        graph(e.multiply(tanh(x), sqrt(y)), e.add(tanh(x), sqrt(y)), e.add(x, y), e.negative(e.add(x, y)))
    )

    computed = [v.op.name for v in result.values]
    assert computed.count("tanh") == 1
    assert computed.count("sqrt") == 1
    assert computed.count("add") == 3


def test_batch_norms_compute_their_scale_once(change):
    x, gamma, beta = (
        source(Input(k, TensorType(s))) for k, s in (("x", (4, 2, 2, 3)), ("gamma", (3,)), ("beta", (3,)))
    )
    before = graph(batch_norm_training(x, gamma, beta)[0])

    change(before, Simplify(expand_norms=True)(before), "batch_norm_expanded")
    assert "batch_norm" in [v.op.name for v in Simplify()(before).values]


def test_updates_follow_their_parameters(weight):
    w = weight("w", 3)
    before = Graph("g", (), {}, {w: e.add(e.multiply(w, 1.0), 1.0)})
    after = Simplify()(before)

    assert after.updates[w].operands[0] is w
