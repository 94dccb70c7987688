"""The interpreter: batches, precision, updates and what it refuses."""

import numpy as np
import pytest

from dlc.compiler import ops
from dlc.compiler.interpret import bind_batch, evaluate, interpret
from dlc.compiler.ir import Graph, Input, N, Parameter, TensorType, source


def example():
    x = source(Input("x", TensorType((N, 3))))
    w = source(Parameter("w", TensorType((2, 3))))
    y = ops.reshape(ops.linear(x, w), (N, 1, 2))
    new = ops.multiply(w, 0.1)
    return Graph("example", (x,), {"y": y}, {w: new})


@pytest.mark.parametrize("batch", [1, 4])
def test_outputs_and_updates(batch):
    x, w = np.ones((batch, 3), np.float32), np.arange(6, dtype=np.float32).reshape(2, 3)

    outputs, updates = interpret(example(), {"x": x, "w": w})

    np.testing.assert_allclose(outputs["y"], np.tile([[[3.0, 12.0]]], (batch, 1, 1)))
    np.testing.assert_allclose(updates["w"], w * 0.1, rtol=1e-6)
    assert outputs["y"].dtype == updates["w"].dtype == np.float32


def test_double_feeds_give_double_results():
    outputs, updates = interpret(example(), {"x": np.ones((2, 3)), "w": np.ones((2, 3))})

    assert outputs["y"].dtype == updates["w"].dtype == np.float64


def test_a_value_that_is_an_input_or_used_twice_comes_out():
    x = source(Input("x", TensorType((2,))))

    a, b, c = evaluate([x, ops.exp(x), x], {"x": np.zeros(2)})

    assert a is c and b.tolist() == [1.0, 1.0]


def test_the_batch_is_bound_where_ops_name_it():
    assert bind_batch(ops.BroadcastTo((N, 3)), 5) == ops.BroadcastTo((5, 3))
    op = ops.Transpose((1, 0))
    assert bind_batch(op, 5) is op


def test_wrong_feeds_are_refused():
    graph = example()
    w = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"no array was given for x: float32\[N, 3\]"):
        interpret(graph, {"w": w})
    with pytest.raises(ValueError, match=r"x is \[2, 4\]; expected float32\[N, 3\]"):
        interpret(graph, {"x": np.ones((2, 4)), "w": w})
    y = source(Input("y", TensorType((N, 3))))
    both = Graph("both", (y,), {"z": ops.add(source(Input("x", TensorType((N, 3)))), y)})
    with pytest.raises(ValueError, match=r"different batches: x 2, y 3|different batches: y 3, x 2"):
        interpret(both, {"x": np.ones((2, 3)), "y": np.ones((3, 3))})
