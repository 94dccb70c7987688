"""Programs: what runs in which order on which memory. Each is also run and compared with the interpreter."""

import numpy as np
import pytest

from dlc.compiler.ir import Graph, N
from dlc.compiler.ops import elementwise as e
from dlc.compiler.ops.convolution import conv2d
from dlc.compiler.ops.functions import exp, relu, tanh
from dlc.compiler.ops.linear import linear
from dlc.compiler.ops.reduction import mean, reduce_sum
from dlc.compiler.ops.shape import reshape, transpose
from dlc.runtime.plan import BATCH


def steps(compiled):
    return [s.what for s in compiled.program.steps]


def places(compiled, step):
    slots = [compiled.program.slots[i] for i in compiled.program.steps[step].slots]
    return [slot.name or slot.place for slot in slots]


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("fixed", [False, True])
def test_any_batch_and_a_fixed_one(given, weight, check_compiled, batch, fixed):
    x = given("x", N, 5, 6, 3)
    y = relu(e.add(conv2d(x, weight("w", 7, 3, 3, 3), padding=1), weight("b", 7)))
    graph = Graph("g", (x,), {"y": linear(mean(y, (1, 2)), weight("out", 4, 7)), "z": transpose(y, (0, 3, 1, 2))})
    compiled = check_compiled(graph, batch, batch if fixed else None)

    assert compiled.program.batch == (batch if fixed else BATCH)
    assert all(bool(s.kernel_one) != fixed for s in compiled.program.steps)


def test_results_are_written_where_the_caller_wants_them(given, check_compiled):
    x = given("x", N, 6)
    compiled = check_compiled(Graph("g", (x,), {"y": reshape(tanh(x), (N, 2, 3))}))

    assert places(compiled, 0) == ["x", "y"]
    assert compiled.program.outputs[0].shape == (BATCH, 2, 3)


def test_outputs_that_nothing_computes_are_copied(given, weight, check_compiled):
    x, w = given("x", N, 6), weight("w", 4)
    t = tanh(x)
    outputs = {"same": x, "view": reshape(x, (N, 3, 2)), "weight": w, "t": t, "again": t, "seen": reshape(t, (N, 1, 6))}

    assert steps(check_compiled(Graph("g", (x,), outputs))).count("copy") == 5


def test_views_share_memory(given, weight, check_compiled):
    x = given("x", N, 2, 3)
    y = reshape(exp(x), (N, 6))
    compiled = check_compiled(Graph("g", (x,), {"y": linear(y, weight("w", 4, 6))}))

    seen = {(s.storage, s.shape) for s in compiled.program.slots if s.place == "arena"}
    assert seen == {(0, (BATCH, 2, 3)), (0, (BATCH, 6))}


def test_equal_kernels_are_one_function(given, weight, check_compiled):
    x = y = given("x", N, 6, 6, 4)
    for i in range(3):
        y = relu(e.add(conv2d(y, weight(f"w{i}", 4, 4, 3, 3), padding=1), weight(f"b{i}", 4)))
    compiled = check_compiled(Graph("g", (x,), {"y": y}))

    assert len({s.kernel for s in compiled.program.steps}) == 1
    assert {n for s in compiled.program.steps for n in (s.kernel, s.kernel_one)} == set(compiled.functions)
    assert len(compiled.functions) == 2


def test_kernels_that_differ_in_a_constant_are_two_functions(given, check_compiled):
    x = given("x", N, 6)
    y = tanh(e.multiply(tanh(e.multiply(x, 2.0)), 3.0))
    z = reduce_sum(e.multiply(y, 2.0), (1,))
    compiled = check_compiled(Graph("g", (x,), {"y": z, "z": reduce_sum(e.multiply(y, 4.0), (1,))}))

    assert len({s.kernel for s in compiled.program.steps if s.what == "multiply+sum"}) == 2


def test_tables_become_weights_of_the_program(given, check_compiled):
    x = given("x", N, 3)
    table = np.arange(3, dtype=np.float32)
    compiled = check_compiled(Graph("g", (x,), {"y": e.add(x, e.constant(table))}))

    assert [w.role for w in compiled.program.weights] == ["derived"]
    np.testing.assert_array_equal(compiled.constants["constant.0"], table)


def test_updates_are_written_in_place(given, weight, check_compiled):
    g = given("g", 40, 17)
    p, m = weight("p", 40, 17), weight("p@momentum", 40, 17)
    moved = e.add(e.multiply(m, 0.9), g)
    compiled = check_compiled(Graph("g", (g,), {}, {p: e.subtract(p, e.multiply(moved, 0.1)), m: moved}))

    assert steps(compiled) == ["multiply+add+multiply+subtract"]
    assert sorted(places(compiled, 0)) == ["g", "p", "p@momentum"]
    assert [w.role for w in compiled.program.weights] == ["parameter", "state"]


def test_readers_of_the_old_value_run_before_it_is_overwritten(given, weight, check_compiled):
    g = given("g", 8, 8)
    p = weight("p", 8, 8)
    new = e.subtract(p, g)
    outputs = {"new": reduce_sum(tanh(new), (1,)), "old": linear(linear(g, p), p)}
    compiled = check_compiled(Graph("g", (g,), outputs, {p: new}))

    assert "copy" not in steps(compiled)
    assert steps(compiled).index("subtract") > max(i for i, s in enumerate(steps(compiled)) if s.startswith("linear"))


def test_a_result_that_needs_the_old_value_after_it_is_overwritten_gets_a_copy(given, weight, check_compiled):
    g = given("g", 8, 5)
    m, p = weight("m", 8, 5), weight("p", 8, 5)
    halved = e.multiply(m, 0.5)
    moved = e.add(halved, g)
    compiled = check_compiled(Graph("g", (g,), {}, {m: moved, p: e.add(e.multiply(moved, 2.0), halved)}))

    assert "copy" in steps(compiled) or len(steps(compiled)) > 1


def test_values_that_read_a_weight_elsewhere_do_not_overwrite_it(given, weight, check_compiled):
    p = weight("p", 6, 6)
    check_compiled(Graph("g", (), {}, {p: transpose(p, (1, 0))}))
    check_compiled(Graph("g", (), {}, {p: e.add(p, reduce_sum(p, (0,), keep=True))}))
    check_compiled(Graph("g", (), {}, {p: linear(p, p)}))


def test_kernels_that_would_wait_for_each_other_are_freed_by_a_copy(given, weight, check_compiled):
    p, q = weight("p", 5, 5), weight("q", 5, 5)
    check_compiled(Graph("g", (), {}, {p: linear(tanh(q), p), q: linear(tanh(p), q)}))
    check_compiled(Graph("g", (), {}, {p: q, q: p}))
    check_compiled(Graph("g", (), {"y": tanh(p)}, {p: p, q: reshape(p, (5, 5))}))


def test_an_update_that_is_an_output_too_has_memory_of_its_own(given, weight, check_compiled):
    g, p = given("g", 5), weight("p", 5)
    new = e.subtract(p, g)
    compiled = check_compiled(Graph("g", (g,), {"new": new}, {p: new}))

    assert [o.name for o in compiled.program.outputs] == ["new"]


def test_arithmetic_is_counted_per_sample(given, weight, check_compiled):
    x = given("x", N, 6, 6, 4)
    y = relu(e.add(conv2d(x, weight("w", 8, 2, 3, 3), padding=1, groups=2), weight("b", 8)))
    compiled = check_compiled(Graph("g", (x,), {"y": y}))

    (step,) = compiled.program.steps
    assert step.flops == 2 * 6 * 6 * 8 * 9 * 2 + 2 * 6 * 6 * 8
    assert step.flops_fixed == 0
