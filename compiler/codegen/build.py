"""Machine code: modules of scheduled functions, compiled in this process or linked into a shared library."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tvm

from dlc.compiler.codegen import intrinsics
from dlc.compiler.codegen.driver import DRIVER, driver
from dlc.compiler.codegen.function import module_of
from dlc.compiler.codegen.target import CpuTarget, host_triple
from dlc.compiler.errors import DlcError


@dataclass(frozen=True)
class CpuCode:
    """The machine code of scheduled functions for a processor."""

    functions: Mapping[str, Any]
    target: CpuTarget

    @cached_property
    def executable(self) -> Any:
        """TVM's executable; compiled on first use."""
        intrinsics.register()
        return tvm.compile(module_of({**self.functions, DRIVER: intrinsics.import_into(driver())}), self.target.tvm)

    def function(self, name: str) -> Callable[..., Any]:
        """A kernel, callable in this process with tensors (DLPack)."""
        compiled = self.executable[name]
        assert callable(compiled)
        return compiled

    def library(self) -> bytes:
        """A shared object with all kernels, for `tvm_ffi.load_module`. The same graph gives the same bytes.

        Raises DlcError where no linker is found.
        """
        with tempfile.TemporaryDirectory() as folder:
            code = Path(folder, "kernels.o")
            self.executable.mod.write_to_file(str(code))
            return link(folder, [code.name], self.target)


def link(folder: str, objects: list[str], target: CpuTarget) -> bytes:
    """The shared object made of object files in a folder, without symbols for debuggers."""
    result = Path(folder, "kernels.so")
    command = linker(target)
    options = ["-shared", "-s", "--build-id=none"] if command[0].endswith("ld") else ["-shared", "-nostdlib", "-s", "-Wl,--build-id=none"]
    # the objects' names end up nowhere; the folder is where the linker runs, so no path does either
    process = subprocess.run([*command, *options, "-o", result.name, *objects], cwd=folder, capture_output=True, text=True)
    if process.returncode:
        raise DlcError.of(
            "E0852",
            f"the linker failed: {process.stderr.strip().splitlines()[-1] if process.stderr.strip() else command[0]}",
            help="pip install ziglang",
        )
    return result.read_bytes()


def linker(target: CpuTarget) -> list[str]:
    """The command that links for a target: a compiler driver or linker of this machine, else the package ziglang.

    Raises DlcError where there is none.
    """
    machine = target.mtriple.split("-")[0]
    if machine == host_triple().split("-")[0]:
        for name in ("gcc", "cc", "clang", "ld"):
            if found := shutil.which(name):
                return [found]
    else:
        for name in (f"{machine}-linux-gnu-gcc", f"{machine}-linux-gnu-ld", "ld.lld"):
            if found := shutil.which(name):
                return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu"]
    raise DlcError.of(
        "E0852",
        f"no linker for {machine} was found (gcc, cc, clang, ld or the Python package ziglang)",
        help="pip install ziglang",
    )
