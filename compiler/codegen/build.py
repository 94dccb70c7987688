"""Machine code: scheduled functions compiled to object files, linked into a shared library or run in this process."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dlc.compiler.codegen.linker import linker
from dlc.compiler.codegen.target import CpuTarget
from dlc.compiler.errors import DlcError
from dlc.runtime.library import load_code, without_torch

if TYPE_CHECKING:
    from dlc.compiler.codegen.object_code import Workshop

DRIVER = "dlc_run_steps"
"""The name of the driver in a library (see `codegen.driver`), for `Program.driver`."""

_ROOM = 64 * 2**20
"""Bytes that object files and library may need; LLVM ends the process where a file cannot be written."""


def _forget(objects: Mapping[str, bytes]) -> None:
    """Keeps nothing."""


def _silent(part: float) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class CpuCode:
    """The machine code of kernels for a processor.

    `functions` are scheduled, to be compiled here; `objects` are object files of others, compiled before; `workshop` has begun
    with some of the functions, where there is one. What is compiled is given to `keep`, `report` is told what part is done.
    `linked`: kernels for this process come out of the library too, which a cache makes cheap; else TVM puts them into memory,
    which needs no linker.
    """

    functions: Mapping[str, Any]
    target: CpuTarget
    objects: Mapping[str, bytes] = field(default_factory=dict)
    workshop: Workshop | None = None
    keep: Callable[[Mapping[str, bytes]], object] = _forget
    report: Callable[[float], object] = _silent
    linked: bool = False

    def function(self, name: str) -> Callable[..., Any]:
        """A kernel, callable in this process with tensors (DLPack)."""
        if self.linked:
            return self._loaded(name)
        compiled = self._executables[name][name]
        assert callable(compiled)
        return cast(Callable[..., Any], compiled)  # tvm has no types

    def library(self) -> bytes:
        """A shared object with all kernels, for `tvm_ffi.load_module`. The same graph gives the same bytes.

        Raises DlcError where no linker is found, or where the disk has no room for it.
        """
        return self._library

    @cached_property
    def _loaded(self) -> Callable[[str], Callable[..., Any]]:
        return load_code(self.library())

    @cached_property
    def _executables(self) -> Mapping[str, Any]:
        """TVM's executables, by the names of their functions."""
        if not self.functions:
            return {}
        with without_torch():
            from dlc.compiler.codegen.object_code import compile_functions

        total = len(self.functions)
        return compile_functions(self.functions, self.target, lambda done: self.report(done / total))

    def _compiled(self) -> dict[str, bytes]:
        """The object files of the functions that are compiled here, by name."""
        if not self.functions:
            return {}
        workshop = self.workshop or workshop_for(self.target)
        for name, function in self.functions.items():
            workshop.begin(name, function)
        total = len(self.functions)
        return workshop.finish(lambda done: self.report(done / total))

    @cached_property
    def _library(self) -> bytes:
        made = self._compiled()
        self.keep(made)
        objects = {**self.objects, **made}
        with tempfile.TemporaryDirectory() as folder:
            for name, code in objects.items():
                Path(folder, f"{name}.o").write_bytes(code)
            return link(folder, [f"{name}.o" for name in sorted(objects)], self.target)


def workshop_for(target: CpuTarget) -> Workshop:
    """What makes object files for a target.

    Raises DlcError where no linker is found, or where the disk has no room for them.
    """
    linker(target)
    folder = tempfile.gettempdir()
    if shutil.disk_usage(folder).free < _ROOM:
        raise DlcError.of(
            "E0859",
            f"the disk of {folder} is full: {_ROOM // 2**20} MB are needed for a while",
            help="free some space there, or name another folder in the environment variable TMPDIR",
        )
    with without_torch():
        from dlc.compiler.codegen.object_code import Workshop  # tvm: a second that full caches save

    return Workshop(target)


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
