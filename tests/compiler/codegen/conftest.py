"""Graphs compiled and compared with the interpreter."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.target import Target
from dlc.compiler.interpret import interpret
from dlc.compiler.ir import Input, N, Parameter, TensorType, source
from dlc.runtime.arrays import aligned_empty
from dlc.runtime.executor import Executor


def aligned(array):
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def random_weight(spec, rng):
    """Numbers in the form that kernels read, small enough that nothing saturates."""
    shape = spec.layout.canonical_shape if spec.layout else spec.shape
    array = (rng.standard_normal(shape) / max(1.0, np.sqrt(np.prod(shape[1:])))).astype(np.float32)
    return spec.layout.pack(array) if spec.layout else array


def near(computed, expected, name):
    np.testing.assert_allclose(
        computed, expected, rtol=1e-4, atol=3e-5 * max(np.abs(expected).max(initial=0), 1e-3), err_msg=name
    )


@pytest.fixture
def given():
    """given(key, *shape): an input; shapes may start with N."""
    return lambda key, *shape: source(Input(key, TensorType(shape)))


@pytest.fixture
def weight():
    return lambda key, *shape: source(Parameter(key, TensorType(shape)))


@pytest.fixture
def check_compiled():
    """check_compiled(graph, batch=3, fixed=None): outputs and updated weights are the interpreter's; gives what was compiled."""

    def check(graph, batch=3, fixed=None):
        rng = np.random.default_rng(0)
        compiled = compile_graph(graph, Target.parse("cpu"), batch=fixed)
        sizes = {v.op.key: tuple(batch if d is N else d for d in v.type.shape) for v in graph.inputs}
        feeds = {k: rng.standard_normal(s).astype(np.float32) for k, s in sizes.items()}
        weights = {s.name: random_weight(s, rng) for s in compiled.program.weights} | dict(compiled.constants)
        memory = {k: aligned(a) for k, a in weights.items()}
        outputs = Executor(compiled.program, compiled.function, memory, 2).run(feeds)
        exact = {k: a.astype(np.float64) for k, a in {**feeds, **weights}.items()}
        expected, updated = interpret(graph, exact)
        for name, array in expected.items():
            near(outputs[name], array, name)
        for name, array in weights.items():
            near(memory[name], updated.get(name, array), name)
        return compiled

    return check


@pytest.fixture
def emulated(tmp_path):
    """emulated(compiled): the kernels of a graph compiled for a GPU, as functions by name of tensors in main memory."""
    if shutil.which("g++") is None:
        pytest.skip("the emulation is compiled with g++")
    found = importlib.util.spec_from_file_location("emulation", Path(__file__).with_name("emulation.py"))
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return lambda compiled: module.emulated(compiled, tmp_path)
