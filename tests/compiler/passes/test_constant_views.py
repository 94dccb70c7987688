"""Views of constants are constants, and kernels never read memory that nothing wrote."""

import numpy as np

from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.target import Target
from dlc.compiler.ir import Constant, Graph, Input, TensorType, Value, source
from dlc.compiler.ops.elementwise import multiply
from dlc.compiler.ops.shape import Reshape, broadcast_to, reshape
from dlc.compiler.passes import Simplify


def graph_over_a_view_of_a_constant() -> tuple[Graph, Value]:
    x = source(Input("x", TensorType((2, 3))))
    number = source(Constant("", TensorType(()), np.float32(0.25)))
    stretched = broadcast_to(reshape(number, (1, 1)), (2, 3))
    return Graph("g", (x,), {"y": multiply(x, stretched), "z": stretched}), x


def test_a_view_of_a_number_becomes_a_number() -> None:
    graph, _ = graph_over_a_view_of_a_constant()

    simple = Simplify()(graph)

    assert not any(isinstance(v.op, Reshape) for v in simple.values)
    assert simple.outputs["y"].operands[1].type.shape == ()


def test_every_arena_slot_is_written_before_it_is_read() -> None:
    graph, _ = graph_over_a_view_of_a_constant()

    program = compile_graph(graph, Target.parse("cpu")).program

    written: set[int] = set()
    for step in program.steps:
        read, results = step.slots[: -step.results], step.slots[-step.results :]
        storages = {program.slots[i].storage for i in read if program.slots[i].place == "arena"}
        assert storages <= written
        written |= {program.slots[i].storage for i in results}
