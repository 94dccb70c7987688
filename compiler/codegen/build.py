"""Machine code: modules of scheduled functions, compiled in this process or linked into a shared library."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import tvm

from dlc.compiler.codegen import intrinsics
from dlc.compiler.codegen.driver import DRIVER, driver
from dlc.compiler.codegen.function import module_of
from dlc.compiler.codegen.linker import linker
from dlc.compiler.codegen.target import CpuTarget, available_cores
from dlc.compiler.errors import DlcError

_PARTS = 8
"""Into how many modules the functions are shared out at most."""

_ROOM = 64 * 2**20
"""Bytes that object files and library may need; LLVM ends the process where a file cannot be written."""


@dataclass(frozen=True)
class CpuCode:
    """The machine code of scheduled functions for a processor."""

    functions: Mapping[str, Any]
    target: CpuTarget

    @cached_property
    def parts(self) -> tuple[tuple[tuple[str, ...], Any], ...]:
        """The names of some functions and TVM's executable of these, for every part.

        Parts are compiled side by side on all cores. How functions are shared out depends on their number alone, so the
        same functions give the same code.
        """
        intrinsics.register()
        functions = {**self.functions, DRIVER: driver()}
        count = min(_PARTS, -(-len(functions) // 2))
        shares = [tuple(functions)[i::count] for i in range(count)]

        def build(names: tuple[str, ...]) -> Any:
            part = intrinsics.with_definitions({name: functions[name] for name in names})
            return tvm.compile(module_of(part), self.target.tvm)

        return tuple(zip(shares, _side_by_side(build, shares), strict=True))

    def function(self, name: str) -> Callable[..., Any]:
        """A kernel, callable in this process with tensors (DLPack)."""
        executable = next(e for names, e in self.parts if name in names)
        compiled = executable[name]
        assert callable(compiled)
        return cast(Callable[..., Any], compiled)  # tvm has no types

    def library(self) -> bytes:
        """A shared object with all kernels, for `tvm_ffi.load_module`. The same graph gives the same bytes.

        Raises DlcError where no linker is found, or where the disk has no room for it.
        """
        linker(self.target)  # before the work
        with tempfile.TemporaryDirectory() as folder:
            if shutil.disk_usage(folder).free < _ROOM:
                raise DlcError.of(
                    "E0859",
                    f"the disk of {tempfile.gettempdir()} is full: {_ROOM // 2**20} MB are needed for a while",
                    help="free some space there, or name another folder in the environment variable TMPDIR",
                )
            names = [f"kernels{i}.o" for i in range(len(self.parts))]

            def write(part: tuple[str, Any]) -> None:
                name, executable = part
                executable.mod.write_to_file(str(Path(folder, name)))

            _side_by_side(write, [(name, e) for name, (_, e) in zip(names, self.parts, strict=True)])
            return link(folder, names, self.target)


def _side_by_side(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """The function's results, computed on all cores: TVM and LLVM let go of Python's lock."""
    with ThreadPoolExecutor(min(len(items), available_cores())) as pool:
        return list(pool.map(function, items))


def link(folder: str, objects: list[str], target: CpuTarget) -> bytes:
    """The shared object made of object files in a folder, without symbols for debuggers."""
    result = Path(folder, "kernels.so")
    command = linker(target)
    options = ["-shared", "-s", "-o", result.name]
    options += ["--build-id=none"] if Path(command[0]).name.endswith("ld") else ["-nostdlib", "-Wl,--build-id=none"]
    # the linker runs in the folder, so that no path gets into the library
    process = subprocess.run([*command, *options, *objects], cwd=folder, capture_output=True, text=True)
    if process.returncode:
        said = process.stderr.strip().splitlines() or ["it gave no reason"]
        raise DlcError.of("E0852", f"{Path(command[0]).name} cannot link: {said[-1]}", help="pip install ziglang")
    return result.read_bytes()
