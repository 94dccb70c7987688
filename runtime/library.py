"""Machine code: TVM's small runtime library without the compiler, and artifacts' shared objects, loaded from memory."""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from dlc.runtime import threads
from dlc.runtime.errors import RuntimeFault

_UNNEEDED = ("torch", "cuda")
"""Packages that `import tvm_ffi` imports if installed. They cost a second, and nothing here needs them."""

_serial = itertools.count(1)
_lock = threading.Lock()
_runtime: ctypes.CDLL | None = None
_cudart: ctypes.CDLL | None = None

_RUNTIME = "libtvm_runtime.so"
_CUDART = "libcudart.so.13"


class _Absent:
    """Makes the packages in `_UNNEEDED` look absent to imports of one thread, while it is on `sys.meta_path`."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuses the packages; leaves all others to the finders behind it."""
        if name in _UNNEEDED and threading.get_ident() == self.thread:
            raise ModuleNotFoundError(f"{name} is not imported here", name=name)


@contextmanager
def without_torch() -> Iterator[None]:
    """Keeps imports in the block from dragging in torch and the CUDA bindings, as `tvm_ffi` (1.2 s becomes 0.06 s) and `tvm`
    do where they are installed.

    Packages that are imported already stay; afterwards all of them can be imported as ever. Tensors of torch are taken
    all the same, through DLPack.
    """
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        yield
    finally:
        sys.meta_path.remove(absent)


def import_tvm_ffi() -> ModuleType:
    """The module `tvm_ffi`, imported without torch. Raises RuntimeFault where it is missing."""
    try:
        with without_torch():
            import tvm_ffi
    except ImportError as error:
        raise RuntimeFault(
            "R0501", f"the package apache-tvm-ffi cannot be imported: {error}", help="install dlc again with pip"
        ) from error
    return tvm_ffi


def load_runtime() -> ModuleType:
    """Makes ready what kernels need (threads, workspaces): TVM's runtime library, 3 MB. Returns the module `tvm_ffi`.

    Neither `tvm` nor any part of the compiler is imported. Raises RuntimeFault where the library is missing.
    """
    global _runtime
    tvm_ffi = import_tvm_ffi()
    with _lock:
        if _runtime is None:
            threads.prepare()
            _runtime = _open_runtime()
            threads.connect(tvm_ffi.get_global_func("runtime.config_threadpool"))
    return tvm_ffi


def _open_runtime() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(runtime_library()), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise RuntimeFault("R0501", f"TVM's runtime library cannot be loaded: {error}") from error


def runtime_library() -> Path:
    """TVM's runtime library: beside this package in a bundle, else in the package apache-tvm."""
    return _beside(_RUNTIME) or _in_package("tvm", f"lib/{_RUNTIME}", "apache-tvm", "install dlc again with pip")


def cuda_libraries() -> tuple[Path, Path]:
    """NVIDIA's CUDA runtime and TVM's runtime library for it. Raises RuntimeFault (R0501) where one is missing."""
    cudart = _beside(_CUDART) or _in_package(
        "nvidia.cu13", f"lib/{_CUDART}", "nvidia-cuda-runtime", "pip install 'dlc[cuda]'"
    )
    return cudart, runtime_library().with_name("libtvm_runtime_cuda.so")


def load_cuda() -> ctypes.CDLL:
    """Makes ready what kernels for GPUs need. Returns NVIDIA's CUDA runtime (`cudart`).

    The machine must have a driver. Raises RuntimeFault where a library is missing.
    """
    global _cudart
    load_runtime()
    with _lock:
        if _cudart is None:
            cudart, tvm = cuda_libraries()
            try:
                library = ctypes.CDLL(str(cudart), ctypes.RTLD_GLOBAL)
                ctypes.CDLL(str(tvm), ctypes.RTLD_GLOBAL)
            except OSError as error:
                raise RuntimeFault("R0501", f"the CUDA runtime cannot be loaded: {error}") from error
            _cudart = library
    return _cudart


def _beside(name: str) -> Path | None:
    path = Path(__file__).parent / "lib" / name
    return path if path.exists() else None


def _in_package(module: str, file: str, package: str, help: str) -> Path:
    """A file of an installed package, which is found and not imported."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        path = Path(folder) / file
        if path.exists():
            return path
    raise RuntimeFault("R0501", f"the package {package} is not installed", help=help)


def load_code(code: bytes | memoryview) -> Callable[[str], Callable[..., Any]]:
    """The kernels of a shared object given as bytes: a function from a kernel's name to the kernel.

    The code is mapped from memory (or from a private file that is gone again when this returns). It stays mapped as
    long as the function or a kernel is alive. Raises RuntimeFault where it is not a shared object of this system.
    """
    tvm_ffi = load_runtime()
    open_library = tvm_ffi.get_global_func("ffi.Module.load_from_file.so")
    try:
        module = _open_in_memory(open_library, code)
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise RuntimeFault("R0502", f"the machine code cannot be loaded: {reason}") from error

    def kernel(name: str) -> Callable[..., Any]:
        try:
            return module.get_function(name)  # type: ignore[no-any-return]
        except AttributeError as error:
            raise RuntimeFault(
                "R0503", f"the machine code holds no kernel {name!r}", help="compile the model again"
            ) from error

    return kernel


def _open_in_memory(open_library: Callable[[str, str], Any], code: bytes | memoryview) -> Any:
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("dlc-code")
        try:
            with open(handle, "wb", closefd=False) as file:
                file.write(code)
            return open_library(_unique_path(handle), "so")
        finally:
            os.close(handle)
    with tempfile.TemporaryDirectory(prefix="dlc-") as folder:  # only its owner can enter it
        path = Path(folder) / "code.so"
        path.write_bytes(code)
        return open_library(str(path), "so")


def _unique_path(handle: int) -> str:
    """The path of an open file, spelt as never before in this process: `/` and `./` are the digits of a serial number.

    The system's loader knows libraries by their paths' spelling. Handles are used again after they are closed, and the plain
    path would then find the library of an earlier artifact.
    """
    spelling = "".join("./" if digit == "1" else "/" for digit in f"{next(_serial):b}")
    return f"/proc/self/fd/{spelling}{handle}"
