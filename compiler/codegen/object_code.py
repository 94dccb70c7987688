"""Scheduled functions compiled by TVM and LLVM.

Every function is a module of its own, so that its code depends on it alone. They are compiled side by side on all cores: TVM
and LLVM let go of Python's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, TypeVar

import tvm

from dlc.compiler.codegen import gathering, intrinsics
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


class Workshop:
    """Makes object files on all cores, behind what goes on meanwhile: kernels are compiled while others are scheduled."""

    def __init__(self, target: CpuTarget) -> None:
        _register()
        self._target = target
        self._pool = ThreadPoolExecutor(available_cores(), "dlc-compile")
        self._begun: dict[str, Future[bytes]] = {}

    def begin(self, name: str, function: Any) -> None:
        """Begins with a function, unless it was begun before."""
        if name not in self._begun:
            self._begun[name] = self._pool.submit(_object_file, name, function, self._target)

    def finish(self, report: Callable[[int], object]) -> dict[str, bytes]:
        """All object files, by the functions' names; `report` is told how many are done."""
        try:
            for number, future in enumerate(as_completed(self._begun.values()), 1):
                future.result()
                report(number)
        finally:
            self.close()
        return {name: future.result() for name, future in self._begun.items()}

    def close(self) -> None:
        """Leaves what is not begun yet."""
        self._pool.shutdown(cancel_futures=True)


def _register() -> None:
    """Makes the operators known while no other thread compiles."""
    intrinsics.register()
    gathering.register()


def _object_file(name: str, function: Any, target: CpuTarget) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.o")
        _executable(name, function, target).mod.write_to_file(str(path))  # LLVM makes machine code here
        return path.read_bytes()


def _executable(name: str, function: Any, target: CpuTarget) -> Any:
    native = "avx512bf16" in target.features
    with tvm.transform.PassContext(config=_OPTIONS):
        return tvm.compile(module_of(intrinsics.with_definitions({name: function}, native)), target.tvm)


def _side_by_side(
    functions: Mapping[str, Any], build: Callable[[str], T], report: Callable[[int], object]
) -> dict[str, T]:
    _register()
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
