"""Machine code for NVIDIA GPUs, made without one: TVM's CUDA source goes through NVRTC, the cubin into the library.

Without a CUDA driver on the machine TVM keeps the source, to be compiled where it is loaded. The library made here holds
the machine code in its place, in the form that TVM's CUDA runtime reads: its device module is stored as format, functions,
code, and format and code are exchanged.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import tvm
import tvm_ffi
from tvm.runtime import _ffi_api

from dlc.compiler.codegen import intrinsics
from dlc.compiler.codegen.build import link
from dlc.compiler.codegen.function import module_of
from dlc.compiler.codegen.target import CudaTarget
from dlc.compiler.errors import DlcError

_PREAMBLE = """#include <cuda/std/cstdint>
#include <cuda/std/limits>
#ifndef INFINITY
#define INFINITY (::cuda::std::numeric_limits<float>::infinity())
#endif
"""


@dataclass(frozen=True)
class CudaCode:
    """The machine code of scheduled functions for a GPU, with the code for the processor that launches them."""

    functions: Mapping[str, Any]
    target: CudaTarget

    @cached_property
    def executable(self) -> Any:
        """TVM's executable: host code, and the kernels as CUDA source."""
        intrinsics.register()
        with self.target.tvm:
            return tvm.compile(module_of(self.functions), self.target.tvm)

    @property
    def source(self) -> str:
        """All kernels in CUDA C++."""
        (device,) = self.executable.mod.imports
        return str(device.inspect_source("cuda"))

    @cached_property
    def cubin(self) -> bytes:
        """The kernels' machine code: an ELF image for one compute capability. Raises DlcError without CUDA's packages."""
        return compile_source(self.source, self.target.arch)

    def function(self, name: str) -> Callable[..., Any]:
        """A kernel, callable in this process on a machine with a GPU."""
        compiled = self.executable[name]
        assert callable(compiled)
        return cast(Callable[..., Any], compiled)  # tvm has no types

    def library(self) -> bytes:
        """A shared object with the launching code and the cubin. The same graph gives the same bytes."""
        host = self.target.host
        packed = bytes(_ffi_api.ModulePackImportsToTensor(self.executable.mod).numpy())
        packed = with_cubin(packed, self.source.encode(), self.cubin)
        with tempfile.TemporaryDirectory() as folder:
            self.executable.mod.write_to_file(str(Path(folder, "host.o")))
            data = Path(folder, "device.ll")
            data.write_text(_as_llvm(packed, host.mtriple))
            tvm_ffi.get_global_func("ffi.Module.load_from_file.ll")(str(data), "ll").write_to_file(
                str(Path(folder, "device.o"))
            )
            return link(folder, ["host.o", "device.o"], host)


def compile_source(source: str, architecture: str) -> bytes:
    """The cubin of CUDA C++ for one compute capability ("sm_90"), by NVRTC.

    Raises DlcError where the packages of the extra `cuda` are missing.
    """
    include = _headers()
    from cuda.bindings import nvrtc  # an extra: absent where nobody compiles for GPUs

    def check(result: Any, *values: Any) -> Any:
        if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise AssertionError(f"NVRTC: {result.name}\n{log()}")
        return values[0] if values else None

    def log() -> str:
        text = bytearray(nvrtc.nvrtcGetProgramLogSize(program)[1])
        nvrtc.nvrtcGetProgramLog(program, text)
        return text.decode(errors="replace")

    lines = (line for line in source.splitlines() if line.strip() != "#include <cuda.h>")
    text = (_PREAMBLE + "\n".join(lines)).encode()
    result, program = nvrtc.nvrtcCreateProgram(text, b"kernels.cu", 0, None, None)
    if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise AssertionError(f"NVRTC: {result.name}")
    options = [f"--gpu-architecture={architecture}", "-default-device", "--device-int128", "--fmad=true"]
    options += [f"-I{include}", f"-I{include / 'cccl'}"]
    options += [f"-D__NV_SILENCE_DEPRECATION_{end}=" for end in ("BEGIN", "END")]
    options += [f"-D__NV_SILENCE_HOST_DEPRECATION_{end}=" for end in ("BEGIN", "END")]
    try:
        check(*nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options]))
        code = bytearray(check(*nvrtc.nvrtcGetCUBINSize(program)))
        check(*nvrtc.nvrtcGetCUBIN(program, code))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return bytes(code)


def _headers() -> Path:
    """The folder of CUDA's headers in NVIDIA's Python packages."""
    missing = None
    try:
        found = importlib.util.find_spec("cuda.bindings.nvrtc") and importlib.util.find_spec("nvidia.cu13")
    except ModuleNotFoundError:
        found = None
    if found:
        for folder in found.submodule_search_locations or ():
            include = Path(folder, "include")
            wanted = ("cuda_runtime.h", "cccl/cuda/std/cstdint", "crt/host_defines.h")
            missing = [name for name in wanted if not (include / name).exists()]
            if not missing:
                return include
    what = f" ({missing[0]} is not there)" if missing else ""
    raise DlcError.of(
        "E0853", f"compiling for CUDA needs NVIDIA's compiler packages{what}", help="pip install 'dlc[cuda]'"
    )


def with_cubin(packed: bytes, source: bytes, cubin: bytes) -> bytes:
    """TVM's packed device module with its CUDA source exchanged for machine code.

    The form is: total length; …; "cuda" and the module's length; the module: "cuda" (its format), …, the source. Strings
    and byte strings follow their length in 8 bytes, little-endian.
    """
    if source not in packed:  # the machine has a CUDA driver: the code is compiled already
        return packed

    def string(data: bytes) -> bytes:
        return len(data).to_bytes(8, "little") + data

    head, end = packed.split(string(source))
    before, kind, module = head.partition(string(b"cuda"))
    length, format_, functions = module[:8], string(b"cuda"), module[8 + 12 :]
    if (
        end
        or not kind
        or not module[8:].startswith(format_)
        or int.from_bytes(length, "little") != len(packed) - len(before) - 20
    ):
        raise AssertionError("TVM packs device modules in another form than this version of dlc knows")
    body = string(b"cubin") + functions + string(cubin)
    content = before[8:] + kind + string(body)
    return string(content)


def _as_llvm(data: bytes, triple: str) -> str:
    """LLVM's text for a library's embedded modules, under the name that TVM looks for."""
    text = "".join(chr(b) if 32 <= b < 127 and b not in (34, 92) else f"\\{b:02X}" for b in data)
    flag = '!llvm.module.flags = !{!0}\n!0 = !{i32 2, !"tvm_target", !"{\\22kind\\22:\\22llvm\\22}"}'
    blob = f'@__tvm_ffi__library_bin = constant [{len(data)} x i8] c"{text}", align 8'
    return f'target triple = "{triple}"\n{blob}\n{flag}\n'
