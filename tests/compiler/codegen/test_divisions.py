"""The guard against TVM's wrong simplification of (f % a + c) // b."""

import numpy as np
import pytest
import tvm
from tvm import te
from tvm.s_tir import Schedule

from dlc.compiler.codegen.divisions import guard_divisions
from dlc.compiler.codegen.target import Target
from dlc.compiler.ir import Graph
from dlc.compiler.ops.pooling import max_pool


def halved_rows(offset, divisor):
    """Rows of an image read at (row + offset) // divisor, the loops over samples and rows fused as threads share them."""
    x = te.placeholder((4, 12, 16), "float32", "x")
    y = te.compute((4, 12, 16), lambda n, h, c: x[n, te.min(te.max((h + offset) // divisor, 0), 11), c], "y")
    schedule = Schedule(te.create_prim_func([x, y], index_dtype_override="int64"))
    n, h, c = schedule.get_loops(schedule.get_sblock("y"))
    schedule.parallel(schedule.fuse(n, h))
    schedule.vectorize(c)
    return schedule.mod["main"]


@pytest.mark.parametrize("offset", [-5, -1, 0, 1, 2, 5])
@pytest.mark.parametrize("divisor", [2, 3, 4])
def test_guarded_divisions_are_right(offset, divisor):
    function = guard_divisions(halved_rows(offset, divisor))
    x = np.random.default_rng(0).standard_normal((4, 12, 16)).astype(np.float32)
    result = tvm.runtime.tensor(np.zeros_like(x))
    tvm.compile(function, Target.parse("cpu").tvm)["main"](tvm.runtime.tensor(x), result)

    rows = np.clip((np.arange(12) + offset) // divisor, 0, 11)
    np.testing.assert_array_equal(result.numpy(), x[:, rows])


def test_functions_without_such_divisions_stay_as_they_are():
    function = halved_rows(0, 2)

    assert guard_divisions(function).script() == function.script()
    assert guard_divisions(halved_rows(1, 2)).script() != halved_rows(1, 2).script()


@pytest.mark.parametrize(("size", "channels"), [(12, 16), (12, 64), (9, 16)])
@pytest.mark.parametrize("stride", [2, 3])
def test_gradients_of_padded_pools_reach_the_right_rows(given, check_compiled, size, channels, stride):
    x = given("x", 4, size, size, channels)
    y = max_pool(x, 3, stride=stride, padding=1)
    upstream = given("dy", *y.type.shape)
    (gradient,) = y.op.gradient(y, upstream)

    check_compiled(Graph("g", (x, upstream), {"dx": gradient}))
