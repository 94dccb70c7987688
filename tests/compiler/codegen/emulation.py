"""Kernels for GPUs on a machine without one: their CUDA source is compiled as C++, each thread of a block a coroutine.

Barriers, shuffles and warps' products are honoured; copies that run beside the arithmetic are made as late as they may be. Memory
spaces and races within one instruction are not seen.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tvm_ffi
from tvm import tirx

from dlc.compiler.codegen.compiled import Compiled

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


def emulated(compiled: Compiled, folder: Path) -> Callable[[str], Callable[..., None]]:
    """The kernels of a compiled graph as functions of tensors in main memory."""
    source = compiled.code.source  # type: ignore[attr-defined]  # CudaCode
    start = min(i for i in map(source.find, ('extern "C" __global__', "#ifndef DLC_INSTRUCTIONS")) if i >= 0)
    kernels = {name: launches(name, function) for name, function in compiled.functions.items()}
    text = re.sub(r"__shared__ alignas\((\d+)\)", r"alignas(\1) static", source[start:])
    text = re.sub(r"#ifndef DLC_INSTRUCTIONS.*?#endif  // DLC_INSTRUCTIONS", "", text, flags=re.DOTALL)
    text = re.sub(r"extern __shared__ __align__\(64\) (float\d?) (\w+)\[\];", r"\1* \2 = (\1*)dynamic_shared;", text)
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

        def call(*tensors: Any, backwards: bool = False) -> None:
            library.run_backwards(int(backwards))
            arrays = (t if isinstance(t, np.ndarray) else np.from_dlpack(t) for t in tensors)
            addresses = {n: a.ctypes.data for n, a in zip(names, arrays, strict=True)}
            held = []
            for kernel, _, _ in kernels[name]:
                wanted = [n.lstrip("*").removesuffix("_ptr") for _, n in parameters(source, kernel)]
                for between in set(wanted) - set(addresses):  # what one kernel leaves for the next
                    held.append(np.full(2**22, 255, np.uint8))
                    addresses[between] = held[-1].ctypes.data
                getattr(library, f"run_{kernel}")((ctypes.c_void_p * len(wanted))(*(addresses[n] for n in wanted)))

        return call

    return function
