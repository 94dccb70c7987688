"""Reduced precision as a pass: what is rounded, what stays float32."""

import numpy as np

from dlc.compiler.interpret import interpret
from dlc.compiler.ir import DType, Graph, Input, N, Parameter, TensorType, source
from dlc.compiler.ops.convolution import Conv2d, conv2d
from dlc.compiler.ops.elementwise import Cast, add, multiply
from dlc.compiler.ops.functions import relu
from dlc.compiler.ops.linear import Linear, linear
from dlc.compiler.ops.paired import PairedConv2d, PairedLinear
from dlc.compiler.ops.pooling import MaxPool, max_pool
from dlc.compiler.ops.reduction import mean
from dlc.compiler.ops.shape import flatten
from dlc.compiler.passes import Fuse, NarrowFactors, PairWeights, ReducePrecision
from dlc.compiler.precision import in_precision


def network() -> Graph:
    """A residual block, a pool and a linear layer."""
    x = source(Input("x", TensorType((N, 8, 8, 32))))
    weights = [source(Parameter(f"w{i}", TensorType((32, 32, 3, 3)))) for i in range(2)]
    first = relu(conv2d(x, weights[0], padding=1))
    second = relu(add(conv2d(first, weights[1], padding=1), first))
    pooled = max_pool(second, 2, 2)
    scores = linear(flatten(pooled), source(Parameter("w2", TensorType((10, 512)))))
    return Graph("g", (x,), {"y": scores})


def test_memory_between_kernels_holds_16_bits_and_the_output_32():
    graph = PairWeights()(ReducePrecision(DType.BFLOAT16)(network()))

    kernels = Fuse()(graph)

    stored = [r.type.dtype for k in kernels for r in k.results]
    assert stored[-1] is DType.FLOAT32 and set(stored[:-1]) == {DType.BFLOAT16}
    assert all(p.type.dtype is DType.BFLOAT16 for p in graph.parameters)
    assert sum(isinstance(v.op, PairedConv2d) for v in graph.values) == 2
    assert sum(isinstance(v.op, PairedLinear) for v in graph.values) == 1
    assert all(v.type.dtype is DType.BFLOAT16 for v in graph.values if isinstance(v.op, MaxPool))


def test_a_sum_adds_the_rounded_value_that_a_product_reads():
    graph = ReducePrecision(DType.BFLOAT16)(network())

    (total,) = (v for v in graph.values if v.op.name == "add")

    back = total.operands[1]
    assert back.op == Cast(DType.FLOAT32) and back.operands[0].op == Cast(DType.BFLOAT16)


def meeting() -> Graph:
    """A residual block whose shortcut has a convolution of its own; its sum is squared and averaged, not multiplied."""
    x = source(Input("x", TensorType((N, 8, 8, 32))))
    weights = [source(Parameter(f"w{i}", TensorType((32, 32, 3, 3)))) for i in range(3)]
    first = relu(conv2d(x, weights[0], padding=1))
    total = add(conv2d(first, weights[1], padding=1), conv2d(x, weights[2], padding=1))
    return Graph("g", (x,), {"y": mean(multiply(total, total), (1, 2))})


def test_sums_of_two_products_that_meet_wait_in_16_bits_where_shortcuts_are_narrow():
    for shortcuts, expected in ((False, {DType.FLOAT16, DType.FLOAT32}), (True, {DType.FLOAT16})):
        kernels = Fuse()(ReducePrecision(DType.FLOAT16, shortcuts)(meeting()))

        between = [r for k in kernels for r in k.results if r.type.rank == 4]
        waiting = {r.type.dtype for r in between[:-1]}  # the last is read by the mean, which takes float32
        assert waiting == expected
        assert between[-1].type.dtype is DType.FLOAT32


def test_squares_are_not_rounded():
    graph = ReducePrecision(DType.FLOAT16, shortcuts=True)(meeting())

    (square,) = (v for v in graph.values if v.op.name == "multiply")
    assert all(not isinstance(user.op, Cast) for user in graph.users[square])


def test_what_moves_rounded_values_moves_16_bits_where_shortcuts_are_narrow():
    x = source(Input("x", TensorType((N, 8, 8, 32))))
    first = relu(conv2d(x, source(Parameter("w0", TensorType((32, 32, 3, 3)))), padding=1))
    short = max_pool(first, 1, 2)
    body = conv2d(first, source(Parameter("w1", TensorType((32, 32, 3, 3)))), stride=2, padding=1)
    graph = ReducePrecision(DType.BFLOAT16, shortcuts=True)(Graph("g", (x,), {"y": add(body, short)}))

    (pool,) = (v for v in graph.values if isinstance(v.op, MaxPool))
    assert pool.type.dtype is DType.BFLOAT16


def test_factors_of_8_bits_become_bfloat16_and_give_the_same_numbers():
    rng = np.random.default_rng(0)
    exact = network()
    feeds = {
        v.op.key: rng.standard_normal([2 if d is N else d for d in v.type.shape]).astype(np.float32)
        for v in (*exact.inputs, *exact.parameters)
    }
    rounded = in_precision(exact, "bfloat16")

    graph = NarrowFactors()(rounded)

    products = [v for v in graph.values if isinstance(v.op, Conv2d | Linear)]
    assert {o.type.dtype for v in products for o in v.operands} == {DType.BFLOAT16}
    assert {v.type.dtype for v in products} == {DType.FLOAT32}
    np.testing.assert_array_equal(interpret(graph, feeds)[0]["y"], interpret(rounded, feeds)[0]["y"])


def test_factors_of_more_bits_stay_float32():
    graph = in_precision(network(), "tf32")

    assert NarrowFactors()(graph).values == graph.values
