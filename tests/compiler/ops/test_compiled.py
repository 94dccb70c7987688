"""Compiled operators against their references: every sample, for a batch of one and of three, batch symbolic and fixed."""

import numpy as np
import pytest

from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.target import Target
from dlc.compiler.interpret import bind_batch
from dlc.compiler.ir import Graph, Input, N, apply, source
from dlc.compiler.ops.samples import arrays, bound, operators
from dlc.runtime.executor import Executor

OPERATORS = {op.__name__: op for op in operators()}


def graph_of(samples, batch):
    """One output per sample; the batch symbolic where `batch` is None."""
    inputs, outputs = [], {}
    for number, sample in enumerate(samples):
        types = sample.operands if batch is None else [bound(t, batch) for t in sample.operands]
        operands = [source(Input(f"x{number}.{i}", t)) for i, t in enumerate(types)]
        inputs += operands
        outputs[f"y{number}"] = apply(sample.op if batch is None else bind_batch(sample.op, batch), *operands)
    return Graph("samples", tuple(inputs), outputs)


def feeds_of(samples, batch):
    return {
        f"x{number}.{i}": np.asarray(array, order="C")
        for number, sample in enumerate(samples)
        for i, array in enumerate(arrays(sample, batch))
    }


def check(samples, batches, fixed):
    compiled = compile_graph(graph_of(samples, fixed), Target.parse("cpu"), batch=fixed)
    executor = Executor(compiled.program, compiled.function, compiled.constants)
    for batch in batches:
        results = executor.run(feeds_of(samples, batch))
        for number, sample in enumerate(samples):
            expected = bind_batch(sample.op, batch).reference(*arrays(sample, batch))
            computed = np.asarray(results[f"y{number}"])
            assert computed.dtype == expected.dtype and computed.shape == expected.shape
            exact = not np.issubdtype(expected.dtype, np.floating) or "random" in sample.op.name
            if exact:
                np.testing.assert_array_equal(computed, expected)
            else:
                scale = float(np.abs(expected).max(initial=1.0))
                np.testing.assert_allclose(computed, expected, rtol=2e-5, atol=2e-6 * scale, err_msg=repr(sample.op))


@pytest.mark.parametrize("op", OPERATORS.values(), ids=OPERATORS)
def test_a_compiled_operator_gives_what_its_reference_gives(op):
    samples = list(op.samples())
    with_batch = [s for s in samples if any(N in t.shape for t in s.operands)]

    for batch in (1, 3):
        check(samples, [batch], fixed=batch)
    if with_batch:
        check(with_batch, [1, 3], fixed=None)
