"""Devices: what this machine can run, and why not where it cannot."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dlc.runtime import threads
from dlc.runtime.errors import RuntimeFault

_X86 = {
    "sse3": "pni", "ssse3": "ssse3", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "popcnt": "popcnt", "cx16": "cx16",
    "avx": "avx", "avx2": "avx2", "fma": "fma", "f16c": "f16c", "bmi": "bmi1", "bmi2": "bmi2", "lzcnt": "abm",
    "movbe": "movbe", "avx512f": "avx512f", "avx512bw": "avx512bw", "avx512cd": "avx512cd", "avx512dq": "avx512dq",
    "avx512vl": "avx512vl", "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi", "avx512vbmi2": "avx512_vbmi2",
    "avx512vnni": "avx512_vnni", "avx512bitalg": "avx512_bitalg", "avx512vpopcntdq": "avx512_vpopcntdq",
    "avx512bf16": "avx512_bf16", "avx512fp16": "avx512_fp16", "avxvnni": "avx_vnni", "gfni": "gfni",
    "amx-tile": "amx_tile", "amx-int8": "amx_int8", "amx-bf16": "amx_bf16",
}  # fmt: skip
_ARM = {
    "neon": "asimd", "fp-armv8": "fp", "lse": "atomics", "rdm": "asimdrdm", "fullfp16": "asimdhp", "dotprod": "asimddp",
    "fp16fml": "asimdfhm", "i8mm": "i8mm", "bf16": "bf16", "sve": "sve", "sve2": "sve2",
}  # fmt: skip
FEATURES = {"x86_64": _X86, "aarch64": _ARM}
"""By machine: the instruction set features that matter to kernels, from LLVM's names to Linux's."""


@dataclass(frozen=True)
class Device:
    """Something that runs programs, or would: `detail` describes it, or says why it is not available."""

    name: str
    available: bool
    detail: str


def machine() -> str:
    """The kind of processor, as target triples name it: "x86_64", "aarch64"."""
    name = os.uname().machine.lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


@cache
def cpu_features() -> frozenset[str] | None:
    """Those of `FEATURES` that this machine's processor has, by LLVM's names; None where the system does not say."""
    known = FEATURES.get(machine(), {})
    line = _cpu_line("flags") or _cpu_line("Features")
    if not known or not line:
        return None
    flags = set(line.split())
    return frozenset(name for name, flag in known.items() if flag in flags)


def _cpu_line(key: str) -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
                if not line.strip():
                    break  # the first processor speaks for all
    except OSError:
        pass
    return ""


def check_cpu(triple: str, features: tuple[str, ...]) -> None:
    """Raises RuntimeFault where code for a target triple that uses these features cannot run on this machine."""
    kind = triple.partition("-")[0]
    if kind != machine():
        raise RuntimeFault(
            "R0107",
            f"the artifact holds code for {kind}, this machine is {machine()}",
            help="compile it for this machine",
        )
    have = cpu_features()
    missing = [f for f in features if f in FEATURES.get(kind, {}) and have is not None and f not in have]
    if missing:
        raise RuntimeFault(
            "R0107",
            f"the artifact needs a processor with {', '.join(missing)}, which this one lacks",
            help="compile it on this machine, or for an older processor (--target x86-64-v3)",
        )


_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


@cache
def request_tiles() -> None:
    """Asks the system for the processor's matrix unit (AMX), once for this process and all its threads.

    Linux keeps its 8 KB of state only for processes that ask (arch_prctl, ARCH_REQ_XCOMP_PERM). Raises RuntimeFault (R0109)
    where it refuses.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0:
        return
    reason = os.strerror(ctypes.get_errno())
    raise RuntimeFault(
        "R0109",
        f"the program uses the processor's matrix unit (AMX), and the system does not let this process have it: {reason}",
        help="run it under Linux 5.16 or later, or compile it for a processor without: --target x86-64-v4",
    )


def require_device(name: str, target: str = "") -> None:
    """Raises RuntimeFault where programs for the device ("cpu", "cuda") cannot run here.

    `target` is what GPU code was compiled for: "cuda:sm_90", or "cuda" for all from compute capability 8.0 on.
    """
    if name == "cpu":
        return
    cuda = cuda_device()
    if not cuda.available:
        raise RuntimeFault(
            "R0108",
            f"the program is compiled for {name}, and {cuda.detail}",
            help="compile it for the processor: --target cpu",
        )
    have, wanted = _capability(cuda.detail), _capability(target) or (8, 0)
    fits = have >= wanted if target in ("", "cuda") else have[:1] == wanted[:1] and have >= wanted
    if not fits:
        raise RuntimeFault(
            "R0107",
            f"the artifact holds code for GPUs of compute capability {_dotted(wanted)}, this machine's is {cuda.detail}",
            help=f"compile it for this one: --target cuda:sm_{have[0]}{have[1]}" if have else "compile it for this one",
        )


def _capability(text: str) -> tuple[int, ...]:
    """Major and minor compute capability, of a text that ends in sm_NN; () where it does not."""
    _, found, number = text.rpartition("sm_")
    return (int(number[:-1]), int(number[-1])) if found and number.isdigit() and len(number) > 1 else ()


def _dotted(capability: tuple[int, ...]) -> str:
    return ".".join(map(str, capability))


def cpu_device() -> Device:
    """This machine's processor."""
    model = _cpu_line("model name") or machine()
    have = cpu_features() or frozenset()
    vectors = (
        "AVX-512"
        if "avx512f" in have
        else "AVX2"
        if "avx2" in have
        else "SVE"
        if "sve" in have
        else "NEON"
        if "neon" in have
        else ""
    )
    count = threads.available()
    return Device("cpu", True, ", ".join(filter(None, [model, vectors, f"{count} core{'s' if count > 1 else ''}"])))


@cache
def cuda_device() -> Device:
    """The first NVIDIA GPU, or why there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        seen = Path("/proc/driver/nvidia/version").exists()
        why = "its library libcuda.so.1 cannot be loaded" if seen else "no NVIDIA driver is installed (libcuda.so.1)"
        return Device("cuda", False, why)
    status = driver.cuInit(0)
    if status != 0:
        return Device("cuda", False, f"the NVIDIA driver finds no usable GPU (cuInit: {status})")
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    if count.value == 0:
        return Device("cuda", False, "the NVIDIA driver finds no GPU")
    device, name, value = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), 0)
    driver.cuDeviceGetName(name, len(name), device)
    capability = []
    for attribute in (75, 76):  # compute capability, major and minor
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(str(value.value))
    return Device("cuda", True, f"{name.value.decode(errors='replace')}, sm_{''.join(capability)}")


def devices() -> tuple[Device, ...]:
    """All kinds of devices, available or not."""
    return cpu_device(), cuda_device()
