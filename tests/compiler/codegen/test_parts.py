"""Concatenations that need no kernel: their operands are written where they belong."""

import pytest

from dlc.compiler.ir import Graph, N
from dlc.compiler.ops import add, concat, conv2d, flatten, max_pool, mean, relu
from dlc.compiler.passes import PackWeights


def kinds(compiled):
    return [step.what for step in compiled.program.steps]


@pytest.mark.parametrize("channels", [(16, 32), (3, 5), (33, 1)])
def test_branches_write_their_part_of_the_concatenation(given, weight, check_compiled, channels):
    x = given("x", N, 6, 5, 4)
    first = relu(conv2d(x, weight("a", channels[0], 4, 3, 3), padding=1))
    second = conv2d(x, weight("b", channels[1], 4, 1, 1))
    third = max_pool(x, 3, stride=1, padding=1)
    joined = concat([first, second, third])
    y = relu(conv2d(joined, weight("c", 8, sum(channels) + 4, 1, 1)))

    compiled = check_compiled(PackWeights(16)(Graph("g", (x,), {"y": y})))

    assert "concat" not in " ".join(kinds(compiled))


def test_a_concatenation_grows_in_one_place_while_its_parts_are_read(given, weight, check_compiled):
    x = given("x", N, 4, 4, 3)
    state = relu(conv2d(x, weight("w", 5, 3, 3, 3), padding=1))
    for i in range(3):
        new = relu(conv2d(state, weight(f"w{i}", 6, 5 + 6 * i, 3, 3), padding=1))
        state = concat([state, new])
    y = mean(relu(add(state, 0.5)), (1, 2))

    compiled = check_compiled(Graph("g", (x,), {"y": y}))

    assert not any(what == "concat" for what in kinds(compiled))


def test_what_is_not_computed_for_it_alone_is_copied_into_the_concatenation(given, weight, check_compiled):
    x = given("x", N, 4, 4, 3)
    y = relu(conv2d(x, weight("w", 6, 3, 3, 3), padding=1))
    z = relu(conv2d(y, weight("v", 4, 6, 1, 1)))
    flat = flatten(y)  # a view of y: its elements have to lie together
    outputs = {"joined": concat([x, y, z, y]), "sum": mean(add(flat, 1.0), (1,))}

    compiled = check_compiled(Graph("g", (x,), outputs))

    assert "copy" in kinds(compiled)


def test_a_concatenation_of_inputs_is_a_kernel(given, check_compiled):
    x, y = given("x", N, 4, 3), given("y", N, 4, 5)

    compiled = check_compiled(Graph("g", (x, y), {"joined": concat([x, y])}))

    assert kinds(compiled) == ["concat"]
