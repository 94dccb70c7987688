"""Scheduled functions compiled by TVM and LLVM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import tvm

from dlc.compiler.codegen import intrinsics
from dlc.compiler.codegen.function import module_of
from dlc.compiler.codegen.target import CpuTarget, available_cores


def compile_functions(
    functions: Mapping[str, Any], target: CpuTarget, report: Callable[[int], object]
) -> dict[str, Any]:
    """TVM's executable of each function, by name; `report` is told how many are done.

    Every function is a module of its own, so that its code depends on it alone. They are compiled side by side on all
    cores: TVM and LLVM let go of Python's lock.
    """
    intrinsics.register()
    lock, done = Lock(), 0
    native = "avx512bf16" in target.features

    def build(name: str) -> Any:
        nonlocal done
        made = tvm.compile(module_of(intrinsics.with_definitions({name: functions[name]}, native)), target.tvm)
        with lock:
            done += 1
            report(done)
        return made

    with ThreadPoolExecutor(min(len(functions), available_cores())) as pool:
        return dict(zip(functions, pool.map(build, functions), strict=True))
