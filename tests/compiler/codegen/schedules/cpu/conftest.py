import os
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import tvm
from tvm.s_tir import Schedule

from dlc.compiler.codegen.build import CpuCode
from dlc.compiler.codegen.function import blocks_of, lower
from dlc.compiler.codegen.object_code import compile_functions
from dlc.compiler.codegen.scheduling import apply_rule
from dlc.compiler.codegen.target import CpuTarget, Target
from dlc.compiler.ir import Input, N, Op, TensorType, apply, source
from dlc.compiler.passes.fuse import Kernel


@dataclass(frozen=True)
class Chain:
    """A kernel: an op on its operands, then ops on the result and further operands."""

    op: Op
    operands: tuple[TensorType, ...]
    behind: tuple[tuple[Op, tuple[TensorType, ...]], ...] = ()

    def types(self):
        return [*self.operands, *(t for _, types in self.behind for t in types)]

    def kernel(self):
        number = iter(range(100))
        given = [source(Input(f"x{next(number)}", t)) for t in self.operands]
        body = [apply(self.op, *given)]
        for op, types in self.behind:
            further = [source(Input(f"x{next(number)}", t)) for t in types]
            body.append(apply(op, body[-1], *further))
        return Kernel(tuple(body), (body[-1],), body[0])

    def reference(self, arrays):
        arrays = iter([a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays])
        result = self.op.reference(*(next(arrays) for _ in self.operands))
        for op, types in self.behind:
            result = op.reference(result, *(next(arrays) for _ in types))
        return result


def schedule(chain: Chain, batch: int | None, target: CpuTarget):
    """The scheduled function and the name of the rule that took it."""
    schedule = Schedule(lower(chain.kernel(), batch, target))
    rule = apply_rule(schedule, blocks_of(schedule), target)
    assert rule is not None
    return schedule.mod, type(rule).__name__


def build(chain: Chain, batch: int | None, target: CpuTarget):
    module, _ = schedule(chain, batch, target)
    return CpuCode({"kernel": module["main"]}, target).function("kernel")


def values(chain: Chain, samples: int):
    generator = np.random.default_rng(samples)
    shapes = [[samples if d is N else d for d in t.shape] for t in chain.types()]
    return [generator.standard_normal(s).astype(np.float32) for s in shapes]


def run(function, arrays, shape):
    """The result of a kernel; poisoned before, so that elements left out show."""
    result = tvm.runtime.tensor(np.full(shape, np.nan, np.float32))
    function(*(tvm.runtime.tensor(a) for a in arrays), result)
    return result.numpy()


def run_with_threads(count, function, arrays, shape):
    """As `run`, on a pool of `count` threads: pools belong to the calling thread and are made at first use."""
    found = []
    before = os.environ.get("TVM_NUM_THREADS")
    os.environ["TVM_NUM_THREADS"] = str(count)
    try:
        thread = threading.Thread(target=lambda: found.append(run(function, arrays, shape)))
        thread.start()
        thread.join()
    finally:
        if before is None:
            del os.environ["TVM_NUM_THREADS"]
        else:
            os.environ["TVM_NUM_THREADS"] = before
    return found[0]


@pytest.fixture
def check():
    """check(chain, batch=None, samples=…): the compiled kernel agrees with the reference at each number of samples."""

    def check(chain, batch=None, samples=(1, 2, 3, 5), target="cpu", tolerance=3e-5):
        function = build(chain, batch, Target.parse(target))
        for count in samples if batch is None else (batch,):
            arrays = values(chain, count)
            expected = chain.reference(arrays)
            result = run(function, arrays, expected.shape)
            scale = np.abs(expected).max(initial=1e-6)
            assert np.abs(result - expected).max(initial=0) <= tolerance * scale

    return check


@pytest.fixture
def check_threads():
    """check_threads(chain, samples, batch=…): one and two threads give the same bits."""

    def check_threads(chain, samples, batch=None):
        function = build(chain, batch, Target.parse("cpu"))
        arrays = values(chain, samples)
        shape = chain.reference(arrays).shape
        alone, shared = (run_with_threads(n, function, arrays, shape) for n in (1, 2))
        assert np.array_equal(alone, shared)

    return check_threads


@pytest.fixture
def chain():
    return Chain


@pytest.fixture
def compile_for():
    """compile_for(chain, target, batch=None): machine code is made without a complaint."""

    def compile_for(chain, target, batch=None):
        parsed = Target.parse(target)
        module, _ = schedule(chain, batch, parsed)
        compile_functions({"kernel": module["main"]}, parsed, lambda done: None)

    return compile_for
