"""Differentiation of graphs: what depends, how contributions add, names, errors."""

import numpy as np
import pytest

from dlc.compiler import ops
from dlc.compiler.autodiff import gradients
from dlc.compiler.interpret import evaluate
from dlc.compiler.ir import (
    DType,
    Fusion,
    Graph,
    Input,
    N,
    NotDifferentiable,
    Parameter,
    TensorType,
    Value,
    apply,
    source,
)
from dlc.compiler.ir.verify import verify
from dlc.compiler.source import SourceFile, Span

FILE = SourceFile("net.dlspec", "first\nsecond\nthird\n")


def span(line):
    start = FILE.line_starts[line - 1]
    return Span(FILE, start, start + 5)


def value(*shape, name="x", dtype=DType.FLOAT32):
    return source(Input(name, TensorType(shape, dtype)))


def labelled(made: Value, label: str, line: int) -> Value:
    return Value(made.op, made.operands, made.type, span(line), label)


def network():
    """Two linear layers with a relu between them, and the sum of squares as the loss."""
    x = value(4, 3)
    weights = [source(Parameter(f"l{i}.weight", TensorType(s))) for i, s in enumerate([(5, 3), (2, 5)])]
    first = labelled(ops.linear(x, weights[0]), "l0", 1)
    second = labelled(ops.linear(labelled(ops.relu(first), "act", 2), weights[1]), "l1", 3)
    return x, weights, ops.reduce_sum(ops.multiply(second, second), (0, 1))


def test_contributions_of_several_uses_add():
    x = value(3)
    loss = ops.reduce_sum(ops.add(ops.multiply(x, x), ops.add(x, x)), 0)

    (gradient,) = evaluate(gradients(loss, [x]), {"x": np.array([1.0, 2.0, 3.0])})

    np.testing.assert_allclose(gradient, [4.0, 6.0, 8.0])


def test_a_value_without_a_part_in_the_loss_has_zero_gradients():
    x, y = value(3), value(2, 2, name="y")

    by_y, by_x = gradients(ops.reduce_sum(x, 0), [y, x])

    assert by_y.type == y.type
    np.testing.assert_array_equal(evaluate([by_y], {})[0], np.zeros((2, 2)))
    np.testing.assert_array_equal(evaluate([by_x], {"x": np.ones(3)})[0], np.ones(3))


def test_only_what_depends_on_the_parameters_is_differentiated():
    x, weights, loss = network()

    (gradient,) = gradients(loss, weights[1:])

    made = {v.op.name for v in Graph("g", (x,), {"g": gradient}).values}
    assert "linear_input_gradient" not in made and "linear_weight_gradient" in made


def test_gradients_carry_the_layers_name_and_place():
    x, weights, loss = network()

    by_first, by_second = gradients(loss, weights)

    assert (by_first.label, by_first.span.line) == ("l0", 1)
    assert (by_second.label, by_second.span.line) == ("l1", 3)
    made = Graph("g", (x,), {"a": by_first}).values
    assert {v.label for v in made if v.op.name in ("where", "greater")} == {"act"}


def test_the_graph_of_gradients_is_valid_and_right():
    x, weights, loss = network()
    graph = Graph("g", (x,), {"loss": loss, **{f"g{i}": g for i, g in enumerate(gradients(loss, weights))}})
    verify(graph)
    generator = np.random.default_rng(0)
    arrays = {
        "x": generator.normal(size=(4, 3)),
        "l0.weight": generator.normal(size=(5, 3)),
        "l1.weight": generator.normal(size=(2, 5)),
    }
    hidden = np.maximum(arrays["x"] @ arrays["l0.weight"].T, 0)
    upstream = 2 * hidden @ arrays["l1.weight"].T

    computed = evaluate([graph.outputs["g0"], graph.outputs["g1"]], arrays)

    np.testing.assert_allclose(computed[1], upstream.T @ hidden)
    np.testing.assert_allclose(computed[0], ((upstream @ arrays["l1.weight"]) * (hidden > 0)).T @ arrays["x"])


def test_gradients_through_broadcasting_are_summed_back():
    x, bias, scale = value(4, 2, 3), value(3, name="bias"), value(2, 1, name="scale")
    loss = ops.reduce_sum(ops.multiply(ops.add(x, bias), scale), (0, 1, 2))
    data = {"x": np.ones((4, 2, 3)), "bias": np.zeros(3), "scale": np.array([[1.0], [10.0]])}

    by_bias, by_scale = evaluate(gradients(loss, [bias, scale]), data)

    np.testing.assert_allclose(by_bias, [44.0] * 3)
    np.testing.assert_allclose(by_scale, [[12.0], [12.0]])


def test_an_op_without_a_gradient_is_named_with_its_place():
    x = value(2, 4, 4, 3)
    pooled = ops.max_pool(x, 2)
    inner = ops.MaxPoolGradient((2, 2), (2, 2))
    made = labelled(apply(inner, x, pooled), "pool", 2)

    with pytest.raises(NotDifferentiable, match=r"max_pool_gradient of pool at net.dlspec:2:1 has no gradient"):
        gradients(ops.reduce_sum(made, (0, 1, 2, 3)), [x])


def test_the_loss_must_be_a_scalar_of_floats():
    for bad in (value(3), value(dtype=DType.INT32)):
        with pytest.raises(NotDifferentiable, match="only a scalar of floats"):
            gradients(bad, [bad])


def test_a_mean_over_an_unknown_batch_is_refused():
    x = value(N, 3)

    with pytest.raises(NotDifferentiable, match="training fixes the batch"):
        gradients(ops.mean(x, (0, 1)), [x])


def test_nothing_flows_through_integers_and_comparisons():
    x = value(3)
    counted = ops.cast(ops.greater(x, 0.0), DType.FLOAT32)

    (gradient,) = evaluate(gradients(ops.reduce_sum(counted, 0), [x]), {"x": np.ones(3)})

    np.testing.assert_array_equal(gradient, np.zeros(3))


def test_batch_norm_differentiates_in_two_sums_over_the_activations():
    x = value(2, 3, 3, 4)
    gamma, beta = value(4, name="gamma"), value(4, name="beta")
    y, _, _ = ops.batch_norm_training(x, gamma, beta)
    loss = ops.reduce_sum(ops.multiply(y, y), (0, 1, 2, 3))

    made = Graph("g", (), {str(i): g for i, g in enumerate(gradients(loss, [x, gamma, beta]))}).values

    sums = [v for v in made if v.op.fusion is Fusion.REDUCTION and v.operands[0].type == x.type]
    assert sorted(v.op.name for v in sums) == ["mean", "mean", "sum", "sum"]  # the means are the forward statistics
