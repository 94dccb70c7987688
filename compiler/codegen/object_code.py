"""Scheduled functions compiled by TVM and LLVM.

Every function is a module of its own, so that its code depends on it alone. They are compiled side by side on all cores: TVM
and LLVM let go of Python's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import tvm

from dlc.compiler.codegen import intrinsics
from dlc.compiler.codegen.function import module_of
from dlc.compiler.codegen.target import CpuTarget, available_cores

T = TypeVar("T")

_OPTIONS = {"tirx.disable_assert": True}
"""Kernels do not check their arguments: the runtime did that before, and the checks were half of the machine code."""


def compile_functions(
    functions: Mapping[str, Any], target: CpuTarget, report: Callable[[int], object]
) -> dict[str, Any]:
    """TVM's executable of each function, by name; `report` is told how many are done."""
    return _side_by_side(functions, lambda name: _executable(name, functions[name], target), report)


def compile_objects(
    functions: Mapping[str, Any], target: CpuTarget, folder: Path, report: Callable[[int], object]
) -> dict[str, bytes]:
    """The object file of each function, by name, written to `folder` as NAME.o; `report` is told how many are done."""

    def build(name: str) -> bytes:
        path = folder / f"{name}.o"
        _executable(name, functions[name], target).mod.write_to_file(str(path))  # LLVM makes machine code here
        return path.read_bytes()

    return _side_by_side(functions, build, report)


def _executable(name: str, function: Any, target: CpuTarget) -> Any:
    native = "avx512bf16" in target.features
    with tvm.transform.PassContext(config=_OPTIONS):
        return tvm.compile(module_of(intrinsics.with_definitions({name: function}, native)), target.tvm)


def _side_by_side(
    functions: Mapping[str, Any], build: Callable[[str], T], report: Callable[[int], object]
) -> dict[str, T]:
    intrinsics.register()
    lock, done = Lock(), 0

    def one(name: str) -> T:
        nonlocal done
        made = build(name)
        with lock:
            done += 1
            report(done)
        return made

    with ThreadPoolExecutor(min(len(functions), available_cores())) as pool:
        return dict(zip(functions, pool.map(one, functions), strict=True))
