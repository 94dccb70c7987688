"""The gradient of a linear layer by its operand, where the weight is a stream from memory."""

import numpy as np
import pytest

from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.target import Target
from dlc.compiler.ir import Graph, Input, TensorType, apply, source
from dlc.compiler.ops.elementwise import greater, where
from dlc.compiler.ops.linear import LinearInputGradient
from dlc.runtime.executor import Executor


def given(name, *shape):
    return source(Input(name, TensorType(shape)))


def graph_of(batch, features, features_in, block):
    """The gradient behind a relu, masked by the relu's result "z"."""
    op = LinearInputGradient(features, block, features_in=features_in)
    upstream = given("u", batch, features)
    weight = given("w", *op.weight_shape(features_in))
    z = given("z", batch, features_in)
    return op, Graph("g", (upstream, weight, z), {"y": where(greater(z, 0.0), apply(op, upstream, weight), 0.0)})


@pytest.mark.parametrize(("batch", "features", "features_in"), [(3, 1000, 1100), (1, 515, 2051), (8, 1024, 1024)])
def test_a_streamed_weight_gives_the_gradient_on_any_number_of_threads(batch, features, features_in):
    op, graph = graph_of(batch, features, features_in, 32)
    rng = np.random.default_rng(0)
    values = {v.op.key: rng.standard_normal(v.type.shape).astype(np.float32) for v in graph.inputs}
    exact = op.reference(values["u"].astype(np.float64), values["w"].astype(np.float64))
    expected = np.where(values["z"] > 0, exact, 0)
    target = Target.parse("cpu")
    assert 4 * features * features_in > target.l2, "the weight fits into the cache: the case is not the one meant"
    compiled = compile_graph(graph, target, batch=batch)
    assert "linear_input_gradient" in compiled.script() and "packed" not in compiled.script()
    executor = Executor(compiled.program, compiled.function, compiled.constants)

    results = []
    for threads in (1, 2):
        executor.threads = threads
        results.append(np.array(executor.run(values)["y"]))

    assert np.abs(results[0] - expected).max() <= 2e-6 * np.abs(expected).max()
    np.testing.assert_array_equal(results[0], results[1])
