"""Machine code for NVIDIA GPUs, made without one: TVM's CUDA source goes through NVRTC, the machine code into the library.

Without a CUDA driver on the machine TVM keeps the source, to be compiled where it is loaded. The library made here holds
the machine code in its place, in the form that TVM's CUDA runtime reads: its device module is stored as format, functions,
code, and format and code are exchanged. For one compute capability the code is a cubin; for the portable target it is a fat
binary of several cubins and of PTX, from which drivers make code for GPUs that came later.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import msgspec
import tvm
import tvm_ffi
from tvm.runtime import _ffi_api

from dlc.compiler.codegen import intrinsics
from dlc.compiler.codegen.build import link
from dlc.compiler.codegen.cache import Cache, compiler_version
from dlc.compiler.codegen.function import module_of
from dlc.compiler.codegen.target import CudaTarget
from dlc.compiler.codegen.workload import digest
from dlc.compiler.errors import DlcError

_PREAMBLE = """#include <cuda/std/cstdint>
#include <cuda/std/limits>
#ifndef INFINITY
#define INFINITY (::cuda::std::numeric_limits<float>::infinity())
#endif
"""

_PTX_VERSION = b"8.0"
"""The version of PTX that came with CUDA 12.0."""


@dataclass(frozen=True)
class CudaCode:
    """The machine code of scheduled functions for a GPU, with the code for the processor that launches them.

    What NVIDIA's compiler made of a source is kept in the cache, by source, compute capability and that compiler's version.
    """

    functions: Mapping[str, Any]
    target: CudaTarget
    cache: Cache | None = None

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
    def image(self) -> tuple[str, bytes]:
        """The kernels' machine code and its form: a "cubin" for one compute capability, a "fatbin" for several.

        Raises DlcError without CUDA's packages.
        """
        made = [self._compiled(architecture) for architecture in self.target.architectures]
        if not self.target.is_portable:
            return "cubin", made[0].cubin
        return "fatbin", fat_binary(made)

    def _compiled(self, architecture: str) -> DeviceCode:
        if self.cache is None:
            return compile_source(self.source, architecture)
        key = digest(self.source, architecture, compiler_of_sources(), compiler_version())
        kept = self.cache.get("cuda", key)
        if kept is not None:
            with suppress(msgspec.DecodeError):
                return msgspec.msgpack.decode(kept, type=DeviceCode)
        made = compile_source(self.source, architecture)
        self.cache.put("cuda", key, msgspec.msgpack.encode(made))
        self.cache.trim()
        return made

    def function(self, name: str) -> Callable[..., Any]:
        """A kernel, callable in this process on a machine with a GPU."""
        compiled = self.executable[name]
        assert callable(compiled)
        return cast(Callable[..., Any], compiled)  # tvm has no types

    def library(self) -> bytes:
        """A shared object with the launching code and the cubin. The same graph gives the same bytes."""
        host = self.target.host
        packed = bytes(_ffi_api.ModulePackImportsToTensor(self.executable.mod).numpy())
        packed = with_image(packed, self.source.encode(), *self.image)
        with tempfile.TemporaryDirectory() as folder:
            self.executable.mod.write_to_file(str(Path(folder, "host.o")))
            data = Path(folder, "device.ll")
            data.write_text(_as_llvm(packed, host.mtriple))
            tvm_ffi.get_global_func("ffi.Module.load_from_file.ll")(str(data), "ll").write_to_file(
                str(Path(folder, "device.o"))
            )
            return link(folder, ["host.o", "device.o"], host)


@dataclass(frozen=True)
class DeviceCode:
    """CUDA C++ compiled for one compute capability ("sm_90"): an ELF image, and the PTX that it was made from."""

    architecture: str
    cubin: bytes
    ptx: bytes


def compiler_of_sources() -> tuple[int, int]:
    """The version of NVRTC. Raises DlcError where the packages of the extra `cuda` are missing."""
    _headers()
    from cuda.bindings import nvrtc  # an extra: absent where nobody compiles for GPUs

    _, major, minor = nvrtc.nvrtcVersion()
    return int(major), int(minor)


def compile_source(source: str, architecture: str) -> DeviceCode:
    """CUDA C++ compiled for one compute capability, by NVRTC.

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
        cubin = bytearray(check(*nvrtc.nvrtcGetCUBINSize(program)))
        check(*nvrtc.nvrtcGetCUBIN(program, cubin))
        ptx = bytearray(check(*nvrtc.nvrtcGetPTXSize(program)))
        check(*nvrtc.nvrtcGetPTX(program, ptx))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return DeviceCode(architecture, bytes(cubin), bytes(ptx))


def fat_binary(codes: Sequence[DeviceCode]) -> bytes:
    """One image with the machine code for each compute capability, and the first's PTX for GPUs that came later.

    The PTX says which version of the language it is written in, and drivers refuse versions newer than they are. NVRTC
    names its own; what it writes for these kernels is in the language since `_PTX_VERSION`, which is put in its place.
    """
    _headers()
    from cuda.bindings import nvfatbin

    options = ["-64", "-host=linux"]
    handle = nvfatbin.create(options, len(options))
    try:
        for code in codes:
            nvfatbin.add_cubin(handle, code.cubin, len(code.cubin), code.architecture[3:], "kernels")
        ptx = re.sub(rb"(?m)^\.version .*$", b".version " + _PTX_VERSION, codes[0].ptx)
        nvfatbin.add_ptx(handle, ptx, len(ptx), codes[0].architecture[3:], "kernels", "")
        image = bytearray(nvfatbin.size(handle))
        nvfatbin.get(handle, image)
    finally:
        nvfatbin.destroy(handle)
    return bytes(image)


def _headers() -> Path:
    """The folder of CUDA's headers in NVIDIA's Python packages."""
    missing = None
    try:
        found = importlib.util.find_spec("cuda.bindings.nvfatbin") and importlib.util.find_spec("nvidia.cu13")
    except ModuleNotFoundError:
        found = None
    if found:
        for folder in found.submodule_search_locations or ():
            include = Path(folder, "include")
            wanted = ["include/cuda_runtime.h", "include/cccl/cuda/std/cstdint", "include/crt/host_defines.h"]
            wanted += ["lib/libnvrtc.so.13", "lib/libnvfatbin.so.13"]
            missing = [name for name in wanted if not Path(folder, name).exists()]
            if not missing:
                return include
    what = f" ({missing[0]} is not there)" if missing else ""
    raise DlcError.of(
        "E0853", f"compiling for CUDA needs NVIDIA's compiler packages{what}", help="pip install 'dlc[cuda]'"
    )


def with_image(packed: bytes, source: bytes, form: str, image: bytes) -> bytes:
    """TVM's packed device module with its CUDA source exchanged for machine code of a form ("cubin", "fatbin").

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
    body = string(form.encode()) + functions + string(image)
    content = before[8:] + kind + string(body)
    return string(content)


def _as_llvm(data: bytes, triple: str) -> str:
    """LLVM's text for a library's embedded modules, under the name that TVM looks for."""
    text = "".join(chr(b) if 32 <= b < 127 and b not in (34, 92) else f"\\{b:02X}" for b in data)
    flag = '!llvm.module.flags = !{!0}\n!0 = !{i32 2, !"tvm_target", !"{\\22kind\\22:\\22llvm\\22}"}'
    blob = f'@__tvm_ffi__library_bin = constant [{len(data)} x i8] c"{text}", align 8'
    return f'target triple = "{triple}"\n{blob}\n{flag}\n'
