"""The vectorised functions against the exact ones, over their whole ranges and at their edges."""

import math

import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule

from dlc.compiler.codegen import intrinsics
from dlc.compiler.codegen.target import Target

EDGES = np.array(
    [
        *(0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 2, -2, 0.5, -0.5, 3, -3, 1e-40, 1e-45, -1e-40, 1e38, 3.4e38),
        *(88.72, 88.7228, 88.73, 89, -87.4, -103.2, -104, -1000, 1000),
    ],
    np.float32,
)


def compiled(function, operands, lanes):
    intrinsics.register()
    size = te.var("n", "int64")
    inputs = [te.placeholder((size,), "float32", f"x{i}") for i in range(operands)]
    result = te.compute((size,), lambda i: function(*(x[i] for x in inputs)), "y")
    schedule = Schedule(te.create_prim_func([*inputs, result], index_dtype_override="int64"))
    (loop,) = schedule.get_loops(schedule.get_sblock("y"))
    if lanes > 1:
        schedule.vectorize(schedule.split(loop, [None, lanes])[1])
    module = tvm.IRModule(intrinsics.with_definitions({"main": schedule.mod["main"]}))
    return tvm.compile(module, Target.parse("cpu").tvm)


def call(executable, *operands):
    size = -(-len(operands[0]) // 64) * 64
    tensors = [tvm.runtime.tensor(np.resize(x, size).astype(np.float32)) for x in operands]
    result = tvm.runtime.tensor(np.zeros(size, np.float32))
    executable["main"](*tensors, result)
    return result.numpy()[: len(operands[0])]


def samples():
    rng = np.random.default_rng(0)
    parts = (
        rng.uniform(-110, 95, 20000),
        rng.normal(0, 1, 20000),
        10 ** rng.uniform(-45, 38, 20000),
        -(10 ** rng.uniform(-45, 2, 9999)),
    )
    return np.concatenate([EDGES, *parts]).astype(np.float32)


CASES = {
    "exp": (tirx.exp, np.exp, 2e-7),
    "log": (tirx.log, np.log, 2e-7),
    "tanh": (tirx.tanh, np.tanh, 2e-6),
    "sigmoid": (tirx.sigmoid, lambda x: 1 / (1 + np.exp(-x)), 3e-7),
    "erf": (tirx.erf, np.vectorize(math.erf), 1e-6),
}


@pytest.mark.parametrize("lanes", [1, 6, 16])
@pytest.mark.parametrize("name", CASES)
def test_functions_of_one_operand_are_exact_to_a_few_units(name, lanes):
    function, exact, error = CASES[name]
    x = samples()
    computed = call(compiled(function, 1, lanes), x)
    with np.errstate(all="ignore"):
        expected = exact(x.astype(np.float64))
        rounded = expected.astype(np.float32)

    assert np.array_equal(np.isnan(computed), np.isnan(rounded))
    infinite = np.isinf(rounded)
    assert np.array_equal(computed[infinite], rounded[infinite])
    usual = np.isfinite(rounded) & (np.abs(rounded) > 1e-37)
    assert np.max(np.abs(computed[usual] / expected[usual] - 1)) < error
    tiny = np.isfinite(rounded) & ~usual
    assert np.max(np.abs(computed[tiny] - expected[tiny])) < 1e-37


def test_powers_are_exact_to_a_few_units_and_have_the_edges_of_c():
    rng = np.random.default_rng(1)
    pairs = np.array([(a, b) for a in EDGES for b in EDGES], np.float32)
    x = np.concatenate(
        [pairs[:, 0], rng.uniform(-5, 5, 9000), 10 ** rng.uniform(-45, 38, 9000), rng.uniform(0.9, 1.1, 9000)]
    )
    y = np.concatenate(
        [pairs[:, 1], rng.uniform(-5, 5, 4500), np.round(rng.uniform(-9, 9, 4500)), rng.uniform(-100, 100, 18000)]
    )
    x, y = x.astype(np.float32), y.astype(np.float32)
    computed = call(compiled(tirx.power, 2, 16), x, y)
    with np.errstate(all="ignore"):
        expected = np.power(x.astype(np.float64), y.astype(np.float64))
        rounded = expected.astype(np.float32)

    assert np.array_equal(np.isnan(computed), np.isnan(rounded))
    infinite = np.isinf(rounded)
    assert np.array_equal(computed[infinite], rounded[infinite])
    usual = np.isfinite(rounded) & (np.abs(rounded) > 1e-37)
    assert np.max(np.abs(computed[usual] / expected[usual] - 1)) < 2e-7


def test_no_lane_calls_the_c_library():
    for function in (tirx.exp, tirx.log, tirx.tanh, tirx.sigmoid, tirx.erf):
        assembly = compiled(function, 1, 16).mod.inspect_source("s")
        assert not [word for word in ("expf", "logf", "tanhf", "erff", "dlc_") if word in assembly]


def test_other_element_types_are_left_to_llvm():
    intrinsics.register()
    x = te.placeholder((8,), "float64", "x")
    function = te.create_prim_func([x, te.compute((8,), lambda i: tirx.exp(x[i]))])
    result = tvm.runtime.tensor(np.zeros(8))
    tvm.compile(function, Target.parse("cpu").tvm)["main"](tvm.runtime.tensor(np.full(8, 0.1)), result)

    np.testing.assert_allclose(result.numpy(), np.exp(0.1), rtol=1e-15)
