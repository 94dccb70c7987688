"""Products of a step over pairs give what rounded factors give: on odd sizes, strides, groups, for all three products."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.autodiff import gradients
from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.target import Target
from dlc.compiler.interpret import interpret
from dlc.compiler.ir import Graph, Input, Parameter, TensorType, Value, apply, source
from dlc.compiler.ops import multiply, reduce_sum
from dlc.compiler.ops.convolution import Conv2d, Convolution
from dlc.compiler.ops.linear import Linear, LinearOp
from dlc.compiler.passes import PairProducts, Simplify
from dlc.compiler.precision import in_precision
from dlc.runtime.arrays import aligned_copy
from dlc.runtime.device import cpu_features
from dlc.runtime.executor import Executor

TARGETS = {"cpu:sapphirerapids": {"amx-bf16"}, "cpu:cooperlake": {"avx512bf16"}}
CONVOLUTIONS = [
    (Conv2d(40, (3, 3), padding=(1, 1, 1, 1), block=32), (3, 7, 9, 5)),
    (Conv2d(33, (5, 5), padding=(2, 2, 2, 2), block=32), (2, 9, 7, 48)),
    (Conv2d(64, (3, 3), (2, 2), (1, 1, 1, 1), block=32), (9, 7, 8, 32)),
    (Conv2d(32, (1, 1), (2, 2), block=32), (3, 7, 8, 40)),
    (Conv2d(16, (7, 7), (4, 4), (2, 2, 2, 2), block=32), (2, 19, 22, 3)),
    (Conv2d(64, (3, 3), padding=(1, 1, 1, 1), groups=2, block=32), (2, 6, 5, 128)),
    (Conv2d(32, (3, 2), padding=(2, 1, 2, 1), dilation=(2, 2), block=32), (2, 8, 9, 32)),
    (Conv2d(300, (1, 1), block=32), (5, 7, 5, 100)),
]
LINEAR = [(Linear(40, 32), (5, 33)), (Linear(10, 32), (37, 70)), (Linear(1000, 32), (3, 128))]


def step(op: Convolution | LinearOp, shape: tuple[int, ...], number: int) -> tuple[list[Value], dict[str, Value]]:
    """The product of random operands, and its gradients by both."""
    x = source(Input(f"x{number}", TensorType(shape)))
    weight = source(Parameter(f"w{number}", TensorType(op.weight_shape(shape[-1]))))
    result = apply(op, x, weight)
    upstream = source(Input(f"dy{number}", result.type))
    loss = reduce_sum(multiply(result, upstream), range(result.type.rank))
    by_x, by_weight = gradients(loss, [x, weight])
    return [x, upstream], {f"y{number}": result, f"dx{number}": by_x, f"dw{number}": by_weight}


def graph_of(cases: list) -> Graph:
    inputs, outputs = [], {}
    for number, (op, shape) in enumerate(cases):
        given, made = step(op, shape, number)
        inputs += given
        outputs |= made
    return in_precision(Graph("products", tuple(inputs), outputs), "bfloat16")


def random_feeds(graph: Graph) -> dict[str, np.ndarray]:
    r = np.random.default_rng(0)
    feeds = {}
    for value in (*graph.inputs, *graph.parameters):
        array = r.standard_normal(value.type.shape).astype(np.float32)
        feeds[value.op.key] = array
    return feeds


def without_missing_outputs(feeds: dict[str, np.ndarray], cases: list) -> None:
    """Packed weights are zero where the last block has no outputs."""
    for number, (op, _) in enumerate(cases):
        weight = feeds[f"w{number}"]
        channels = op.channels if isinstance(op, Convolution) else op.features
        weight[-1, ..., channels - (len(weight) - 1) * op.block :] = 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("cases", [CONVOLUTIONS, LINEAR], ids=["convolutions", "linear"])
def test_products_over_pairs_equal_sums_of_rounded_factors(target: str, cases: list) -> None:
    graph = graph_of(cases)
    paired = Simplify()(PairProducts()(graph))
    assert not any(isinstance(v.op, Convolution | LinearOp) for v in paired.values)
    feeds = random_feeds(graph)
    without_missing_outputs(feeds, cases)
    expected, _ = interpret(graph, {name: a.astype(np.float64) for name, a in feeds.items()})

    if not (cpu_features() or set()) >= TARGETS[target]:
        pytest.skip("this processor cannot run it")
    compiled = compile_graph(paired, Target.parse(target), batch=1)
    weights = {s.name: aligned_copy(feeds[s.name]) for s in compiled.program.weights}
    inputs = {s.name: feeds[s.name] for s in compiled.program.inputs}
    results = Executor(compiled.program, compiled.function, weights).run(inputs)

    for name, array in expected.items():
        np.testing.assert_allclose(results[name], array, rtol=1e-5, atol=3e-6 * np.abs(array).max(), err_msg=name)


def test_the_references_of_pairs_give_the_same_numbers() -> None:
    for cases in (CONVOLUTIONS, LINEAR):
        graph = graph_of(cases)
        feeds = random_feeds(graph)
        without_missing_outputs(feeds, cases)
        expected, _ = interpret(graph, feeds)

        results, _ = interpret(PairProducts()(graph), feeds)

        for name, array in expected.items():
            np.testing.assert_allclose(results[name], array, rtol=1e-4, atol=1e-5 * np.abs(array).max(), err_msg=name)


def test_what_has_no_paired_form_keeps_its_rounded_factors() -> None:
    one_channel_each = Conv2d(32, (3, 3), padding=(1, 1, 1, 1), groups=32, block=32)
    unpacked = Conv2d(32, (3, 3), padding=(1, 1, 1, 1))
    wide_padding = Conv2d(32, (1, 1), padding=(1, 1, 1, 1), block=32)
    graph = graph_of([(op, (2, 5, 5, 32)) for op in (one_channel_each, unpacked, wide_padding)])

    left = [v for v in PairProducts()(graph).values if isinstance(v.op, Convolution)]

    assert sorted(v.op.name for v in left) == [
        "conv2d", "conv2d", "conv2d_input_gradient", "conv2d_input_gradient", "conv2d_input_gradient",
        "conv2d_weight_gradient", "conv2d_weight_gradient",
    ]  # fmt: skip
