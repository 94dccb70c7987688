"""The printer: what `dlc show --after build` prints."""

import numpy as np

from dlc.compiler import ops
from dlc.compiler.ir import Graph, Input, N, Parameter, TensorType, Value, source
from dlc.compiler.ir.text import to_text
from dlc.compiler.source import SourceFile, Span
from dlc.runtime.layout import Layout

FILE = SourceFile("lenet5.dlspec", "model M {\n    c1: conv(6, 5)\n}\n")
SPAN = Span(FILE, 14, 28)

EXPECTED = """\
graph lenet5 {
  %image = input : float32[N, 32, 32, 1]
  %c1.weight = parameter : float32[6, 1, 5, 5]
  %table = constant : float32[6]
  %c1.mean = parameter (not trained) packed from [6, 4] : float32[4, 6]
  %0 = conv2d(%image, %c1.weight) {channels=6, kernel=(5, 5), stride=(2, 2)} : float32[N, 14, 14, 6]  # c1 lenet5.dlspec:2
  %1 = multiply(%0, %table) : float32[N, 14, 14, 6]  # c1 lenet5.dlspec:2
  %2 = add(%1, 0.5) : float32[N, 14, 14, 6]  # c1 lenet5.dlspec:2
  %3 = sum(%2) {axes=(1, 2, 3)} : float32[N]  # c1 lenet5.dlspec:2
  %4 = negative(%c1.mean) : float32[4, 6]
  output y = %3
  update %c1.mean = %4
}
"""


def test_a_graph_reads_in_order_with_layers_and_places():
    image = source(Input("image", TensorType((N, 32, 32, 1))))
    weight = source(Parameter("c1.weight", TensorType((6, 1, 5, 5))))
    layout = Layout((6, 4), (6, 4), (6, 4), (6, 4), (1, 0), (4, 6))
    mean = source(Parameter("c1.mean", TensorType((4, 6)), trainable=False, layout=layout))
    plain = ops.conv2d(image, weight, stride=2)
    conv = Value(plain.op, plain.operands, plain.type, SPAN, "c1")
    table = ops.constant(np.ones(6), key="table")
    y = ops.reduce_sum(ops.add(ops.multiply(conv, table), 0.5), (1, 2, 3))

    text = to_text(Graph("lenet5", (image,), {"y": y}, {mean: ops.negative(mean)}))

    assert text == EXPECTED
