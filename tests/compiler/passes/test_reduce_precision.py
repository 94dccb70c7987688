"""Reduced precision as a pass: what is rounded, what stays float32."""

from dlc.compiler.ir import DType, Graph, Input, N, Parameter, TensorType, source
from dlc.compiler.ops.convolution import conv2d
from dlc.compiler.ops.elementwise import Cast, add
from dlc.compiler.ops.functions import relu
from dlc.compiler.ops.linear import linear
from dlc.compiler.ops.paired import PairedConv2d, PairedLinear
from dlc.compiler.ops.pooling import MaxPool, max_pool
from dlc.compiler.ops.shape import flatten
from dlc.compiler.passes import Fuse, PairWeights, ReducePrecision


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
