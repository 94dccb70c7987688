"""Graphs compiled and compared with the interpreter; CUDA kernels run without a GPU.

Their CUDA source runs as coroutines on the processor: barriers and shuffles are honoured, races and memory spaces are not. This
shows wrong indices and formulas, not missing barriers.
"""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm_ffi
from tvm import tirx

from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.compiled import Compiled
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


PRELUDE = Path(__file__).with_name("emulation.h")
COUNT = "(current % shape.x)", "(current / shape.x % shape.y)", "(current / (shape.x * shape.y))"


def launches(name: str, function: Any) -> list[tuple[str, list[int], list[int]]]:
    """The kernels of a scheduled function with their grids and blocks: one for each loop nest that is bound to threads."""
    body = function.body.block.body
    found: list[tuple[str, list[int], list[int]]] = []
    for nest in body.seq if hasattr(body, "seq") else [body]:
        extents: dict[str, int] = {}

        def see(loop: Any, extents: dict[str, int] = extents) -> None:
            if loop.thread_binding is not None:
                extents[str(loop.thread_binding.thread_tag)] = int(loop.extent)

        tvm_ffi.structural_walk(nest, (tirx.For, see))
        kernel = f"{name}_kernel" + (f"_{len(found)}" if found else "")
        found.append((kernel, *([extents.get(f"{kind}.{a}", 1) for a in "xyz"] for kind in ("blockIdx", "threadIdx"))))
    return found


def parameters(source: str, kernel: str) -> list[tuple[str, str]]:
    """Types and names of a kernel's parameters."""
    text = re.search(rf"\b{kernel}\(([^)]*)\)", source)
    assert text is not None
    return [(t.replace("__restrict__", ""), n) for t, _, n in (p.strip().rpartition(" ") for p in text[1].split(","))]


def emulation(compiled: Compiled, folder: Path) -> Callable[[str], Callable[..., None]]:
    """The kernels of a compiled graph as functions of tensors in main memory."""
    source = compiled.code.source  # type: ignore[attr-defined]  # CudaCode
    kernels = {name: launches(name, function) for name, function in compiled.functions.items()}
    text = re.sub(
        r"__shared__ alignas\((\d+)\)", r"alignas(\1) static", source[source.index('extern "C" __global__') :]
    )
    for axis, count in zip("xyz", COUNT, strict=True):
        text = text.replace(f"((int)threadIdx.{axis})", f"((int){count})")
    for kernel, grid, block in (k for found in kernels.values() for k in found):
        passed = ", ".join(f"({kind})P_{kernel}[{i}]" for i, (kind, _) in enumerate(parameters(source, kernel)))
        sizes = ", ".join("{" + ",".join(map(str, size)) + "}" for size in (grid, block))
        text += f"\nstatic void** P_{kernel};\nstatic void B_{kernel}() {{ {kernel}({passed}); }}\n"
        text += f'extern "C" void run_{kernel}(void** p) {{ P_{kernel} = p; emulate(B_{kernel}, {sizes}); }}\n'
    (folder / "kernels.cpp").write_text(PRELUDE.read_text() + text)
    command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-w", "-o", "kernels.so", "kernels.cpp"]
    subprocess.run(command, cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "kernels.so"))

    def function(name: str) -> Callable[..., None]:
        names = [p.name for p in compiled.functions[name].params]

        def call(*tensors: Any) -> None:
            addresses = {n: np.from_dlpack(t).ctypes.data for n, t in zip(names, tensors, strict=True)}
            held = []
            for kernel, _, _ in kernels[name]:
                wanted = [n.lstrip("*").removesuffix("_ptr") for _, n in parameters(source, kernel)]
                for between in set(wanted) - set(addresses):  # what one kernel leaves for the next
                    held.append(np.empty(2**22, np.uint8))
                    addresses[between] = held[-1].ctypes.data
                getattr(library, f"run_{kernel}")((ctypes.c_void_p * len(wanted))(*(addresses[n] for n in wanted)))

        return call

    return function


@pytest.fixture
def emulated(tmp_path: Path) -> Callable[[Compiled], Callable[[str], Callable[..., None]]]:
    """`emulated(compiled)(name)`: a kernel of a graph compiled for a GPU, as a function of tensors in main memory."""
    if shutil.which("g++") is None:
        pytest.skip("the emulation is compiled with g++")
    return lambda compiled: emulation(compiled, tmp_path)
