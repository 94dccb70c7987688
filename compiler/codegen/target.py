"""Targets: what machine code is made for. Names are checked without the compiler; facts are found when asked for."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import os
import platform
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from dlc.compiler.codegen.cache import Cache, compiler_version
from dlc.compiler.errors import DlcError
from dlc.compiler.ir import DType
from dlc.compiler.machine import MESH_L2, Machine, on_mesh
from dlc.runtime.device import FEATURES, cpu_features

TARGETS = {
    "cpu": "this machine's processor",
    "cpu:NAME": "a processor by LLVM's name for it, as in cpu:znver4 or cpu:neoverse-n1",
    "x86-64-v3": "x86-64 with AVX2 and FMA",
    "x86-64-v4": "x86-64 with AVX-512",
    "aarch64": "64-bit ARM with NEON",
    "cuda": "NVIDIA GPUs of compute capability 8.0 and up; needs no GPU to compile",
    "cuda:sm_NN": "NVIDIA GPUs of one compute capability, as in cuda:sm_90",
}
"""The spellings that `Target.parse` takes, with a line on each."""

CUDA_ARCHITECTURES = (
    "sm_75",
    "sm_80",
    "sm_86",
    "sm_87",
    "sm_89",
    "sm_90",
    "sm_100",
    "sm_103",
    "sm_110",
    "sm_120",
    "sm_121",
)

COMMON_CPUS = (
    "x86-64-v2", "x86-64-v3", "x86-64-v4", "haswell", "skylake", "skylake-avx512", "icelake-server", "sapphirerapids",
    "graniterapids", "alderlake", "znver1", "znver2", "znver3", "znver4", "znver5", "neoverse-n1", "neoverse-n2",
    "neoverse-v1", "neoverse-v2", "cortex-a72", "cortex-a76", "apple-m1", "apple-m2", "apple-m3", "generic",
)  # fmt: skip
"""Names to suggest; LLVM decides which are valid."""

_SCHEDULED = ("avx2", "fma", "avx512f", "avx512bf16", "avx512vnni", "amx-bf16", "neon", "sve")
"""The instruction set features that schedules ask for, by LLVM's names."""

_BY_FLAG = ("avx512bf16", "amx-tile", "amx-bf16")
"""Features that are asked of the system and not told from a processor's name."""

_CPU_NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]*")


@dataclass(frozen=True)
class Target:
    """What machine code is made for. `name` is its spelling, as `parse` takes it."""

    name: str
    device: ClassVar[Literal["cpu", "cuda"]] = "cpu"

    @property
    def precisions(self) -> tuple[str, ...]:
        """How kernels may take the factors of products, by the names of `compiler.precision`."""
        return ("float32",)

    def stored(self, dtype: DType) -> DType:
        """The type in which elements of a type lie in memory."""
        return dtype

    @staticmethod
    def parse(text: str, cache: Cache | None = None) -> CpuTarget | CudaTarget:
        """The target of that name. A cache remembers what LLVM says about it, which saves importing TVM.

        Raises DlcError with a suggestion for an unknown name.
        """
        target = _parse(text)
        return _remembered(target, cache) if cache is not None and isinstance(target, CpuTarget) else target


def _parse(text: str) -> CpuTarget | CudaTarget:
    if text == "cpu":
        return CpuTarget(text)
    if text in ("x86-64-v3", "x86-64-v4"):
        return CpuTarget(text, text, "x86_64-linux-gnu")
    if text == "aarch64":
        return CpuTarget(text, "generic", "aarch64-linux-gnu")
    if text == "cuda":
        return CudaTarget(text)
    kind, separator, detail = text.partition(":")
    if kind == "cuda" and separator:
        if detail not in CUDA_ARCHITECTURES:
            raise _unknown(text, [f"cuda:{a}" for a in CUDA_ARCHITECTURES])
        return CudaTarget(text, detail)
    if kind == "cpu" and separator and _CPU_NAME.fullmatch(detail):
        return _named_cpu(text, detail)
    raise _unknown(text, [*(t for t in TARGETS if "N" not in t), *(f"cpu:{c}" for c in COMMON_CPUS)])


def _tvm_target() -> Any:
    """The module `tvm.target`. Its import takes most of a second, so what needs no more than a name does without."""
    from dlc.runtime.library import without_torch

    with without_torch():
        return importlib.import_module("tvm.target")


def _unknown(text: str, candidates: list[str]) -> DlcError:
    close = difflib.get_close_matches(text, candidates, n=1, cutoff=0.5)
    advice = f"did you mean {close[0]!r}?" if close else "one of " + ", ".join(TARGETS)
    return DlcError.of("E0850", f"unknown target {text!r}", help=advice)


def _named_cpu(text: str, cpu: str) -> CpuTarget:
    codegen = _tvm_target().codegen  # LLVM knows the names

    for triple in dict.fromkeys((host_triple(), "x86_64-linux-gnu", "aarch64-linux-gnu")):
        if codegen.llvm_is_valid_cpu(cpu, triple):
            return CpuTarget(text, cpu, triple)
    raise _unknown(text, [f"cpu:{c}" for c in COMMON_CPUS])


def host_triple() -> str:
    """LLVM's name for this machine's kind and operating system, without the vendor."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    return f"{machine}-linux-gnu"


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class CpuTarget(Target):
    """A processor: `cpu` is LLVM's name for it (empty: this machine's), `triple` its kind and operating system.

    The facts below steer schedules. They are properties of the target alone, so that an artifact for a named target
    does not depend on the machine that compiled it. `known` holds those that LLVM would have to be asked for.
    """

    cpu: str = ""
    triple: str = ""
    known: Facts | None = field(default=None, compare=False, repr=False)

    @property
    def precisions(self) -> tuple[str, ...]:
        """How kernels may take the factors of products."""
        return "float32", "bfloat16"

    @property
    def is_host(self) -> bool:
        """Made for this machine alone."""
        return not self.cpu

    @cached_property
    def mcpu(self) -> str:
        """The processor's name for LLVM."""
        if self.cpu:
            return self.cpu
        if self.known is not None:
            return self.known.mcpu
        return str(_tvm_target().codegen.llvm_get_system_cpu())

    @cached_property
    def mtriple(self) -> str:
        """The target triple for LLVM."""
        return self.triple or host_triple()

    @cached_property
    def features(self) -> frozenset[str]:
        """Those of the instruction set features that schedules ask for which the processor has."""
        return frozenset(self.supported(_SCHEDULED))

    def supported(self, features: Iterable[str]) -> tuple[str, ...]:
        """Those of some features, by LLVM's names, that the processor has; code for it may use them."""
        features = tuple(features)
        if self.known is not None and self.known.asked.issuperset(features):
            return tuple(f for f in features if f in self.known.features)
        codegen = _tvm_target().codegen
        return tuple(f for f in features if codegen.target_has_features(f, self.tvm))

    @cached_property
    def lanes(self) -> int:
        """float32 numbers in one vector register."""
        if self.mtriple.startswith("x86_64"):
            return 16 if "avx512f" in self.features else 8 if "avx2" in self.features else 4
        return 4

    @property
    def multiplies_pairs(self) -> bool:
        """Whether there are instructions for products of pairs of bfloat16."""
        return not self.features.isdisjoint(("avx512bf16", "amx-bf16"))

    @cached_property
    def registers(self) -> int:
        """Vector registers."""
        return 16 if self.mtriple.startswith("x86_64") and "avx512f" not in self.features else 32

    @cached_property
    def cores(self) -> int:
        """Cores to keep busy: this machine's for target `cpu`, else 4."""
        return available_cores() if self.is_host else 4

    @cached_property
    def l1(self) -> int:
        """Bytes of one core's level 1 data cache."""
        return (self.is_host and _cache_size(1)) or 32 * 1024

    @cached_property
    def l2(self) -> int:
        """Bytes of one core's level 2 cache."""
        return (self.is_host and _cache_size(2)) or 512 * 1024

    @cached_property
    def l3(self) -> int:
        """Bytes of the level 3 cache that all cores share."""
        return (self.is_host and _cache_size(3)) or 16 * 1024**2

    @cached_property
    def machine(self) -> Machine:
        """The facts that the cost models of passes know."""
        machine = Machine(self.lanes, self.registers, self.cores, self.l1, self.l2, self.l3)
        return on_mesh(machine) if self.is_host and _has_mesh(self.l2) else machine

    @property
    def identity(self) -> tuple[str | float, ...]:
        """All facts on which code for the target depends."""
        rates = self.machine.l2_rate, self.machine.l3_rate, self.machine.memory_rate
        return self.mtriple, self.mcpu, self.cores, self.l1, self.l2, self.l3, *rates, *self.additional

    @cached_property
    def tvm(self) -> Any:
        """TVM's object for the target."""
        more = {"mattr": [f"+{f}" for f in self.additional]} if self.additional else {}
        return _tvm_target().Target({"kind": "llvm", "mcpu": self.mcpu, "mtriple": self.mtriple, **more})

    @property
    def additional(self) -> tuple[str, ...]:
        """Features of this machine's processor that its name may not tell: hypervisors change the model's number, by which
        LLVM knows processors."""
        return tuple(f for f in _BY_FLAG if f in (cpu_features() or ())) if self.is_host else ()


class Facts(msgspec.Struct, frozen=True):
    """What LLVM says about a processor: its name, and which of the features that it was asked about it has."""

    mcpu: str
    asked: frozenset[str]
    features: frozenset[str]


def _remembered(target: CpuTarget, cache: Cache) -> CpuTarget:
    """The target with its facts out of the cache, or found and put there."""
    processor = target.cpu or this_processor()
    if not processor:
        return target
    key = hashlib.sha256(f"{target.mtriple} {processor} {compiler_version()}".encode()).hexdigest()
    content = cache.get("targets", key)
    if content is not None:
        with suppress(msgspec.DecodeError):
            return replace(target, known=msgspec.json.decode(content, type=Facts))
    asked = {*_SCHEDULED, *FEATURES.get(target.mtriple.partition("-")[0], ())}
    facts = Facts(target.mcpu, frozenset(asked), frozenset(target.supported(asked)))
    cache.put("targets", key, msgspec.json.encode(facts))
    return replace(target, known=facts)


def this_processor() -> str:
    """What the system says about this machine's first processor, but for what changes: clock, place. "" if nothing."""
    try:
        block = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return ""
    changing = ("mhz", "processor", "apicid", "core id", "physical id", "siblings", "bogomips", "cpu cores")
    return "\n".join(
        line for line in block.splitlines() if not any(c in line.partition(":")[0].lower() for c in changing)
    )


def _has_mesh(l2: int) -> bool:
    """Whether this machine's processor is one of Intel's servers, whose cores reach the third level through a mesh."""
    return l2 >= MESH_L2 and "GenuineIntel" in this_processor() and "avx512f" in this_processor()


def _cache_size(level: int) -> int:
    """Bytes of this machine's data cache of a level, 0 where the system does not say."""
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if (index / "level").read_text().strip() != str(level):
                continue
            if (index / "type").read_text().strip() == "Instruction":
                continue
            size = (index / "size").read_text().strip()
            return int(size.rstrip("KM")) * {"K": 1024, "M": 1024**2}.get(size[-1], 1)
        except (OSError, ValueError):
            continue
    return 0


PORTABLE = ("sm_80", "sm_90")
"""What `cuda` is compiled for: machine code runs on later minor versions too (8.6, 8.9), and for newer GPUs the driver
translates the portable form (PTX) of the first."""


@dataclass(frozen=True)
class CudaTarget(Target):
    """NVIDIA GPUs: `architecture` is a compute capability ("sm_90"), or empty for all from 8.0 on."""

    device: ClassVar[Literal["cpu", "cuda"]] = "cuda"
    architecture: str = ""

    @property
    def precisions(self) -> tuple[str, ...]:
        """How kernels may take the factors of products: those other than float32 are tensor cores', from 8.0 on."""
        return ("float32", "tf32", "bfloat16", "float16") if self.multiplies_by_tensor_cores else ("float32",)

    @property
    def multiplies_by_tensor_cores(self) -> bool:
        """Whether the GPU has what products are made of: asynchronous copies, and tensor cores for tf32 and bfloat16."""
        return int(self.arch[3:]) >= 80

    @property
    def is_portable(self) -> bool:
        """Made for every GPU from compute capability 8.0 on."""
        return not self.architecture

    @property
    def architectures(self) -> tuple[str, ...]:
        """The compute capabilities to make machine code for."""
        return PORTABLE if self.is_portable else (self.architecture,)

    @property
    def arch(self) -> str:
        """The compute capability that kernels are written for: the least one."""
        return self.architectures[0]

    @property
    def identity(self) -> tuple[str | float, ...]:
        """All facts on which code for the target depends."""
        return "cuda", *self.architectures, *self.host.identity

    def stored(self, dtype: DType) -> DType:
        """Truths lie in memory as bytes: TVM 0.27 writes vectors of them as words of 16 bits, which it reads as floats."""
        return DType.UINT8 if dtype is DType.BOOL else dtype

    @cached_property
    def host(self) -> CpuTarget:
        """The processor that launches the kernels."""
        return CpuTarget("x86-64-v3", "x86-64-v3", "x86_64-linux-gnu")

    @property
    def lanes(self) -> int:
        """Weights are packed by output channels in this many: 1, GPUs read them in canonical order."""
        return 1

    @cached_property
    def tvm(self) -> Any:
        """TVM's object for the target."""
        return _tvm_target().Target({"kind": "cuda", "arch": self.arch}, host=self.host.tvm)
