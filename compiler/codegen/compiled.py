"""Graph -> machine code and program: the way through code generation, from fused kernels to a library.

Kernels whose code the cache holds are neither scheduled nor compiled; where it holds all, TVM is not even imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from dlc.compiler.choices import Choice, Cut
from dlc.compiler.codegen import emit
from dlc.compiler.codegen.build import DRIVER, CpuCode, workshop_for
from dlc.compiler.codegen.cache import PLAIN, BuildOptions, compiler_version
from dlc.compiler.codegen.emit import Call
from dlc.compiler.codegen.target import CpuTarget, CudaTarget
from dlc.compiler.codegen.workload import depends_on_batch, digest, identity
from dlc.compiler.ir import Graph
from dlc.compiler.passes import Fuse, Recompute, Simplify
from dlc.runtime.library import without_torch
from dlc.runtime.plan import Program

if TYPE_CHECKING:
    from dlc.compiler.codegen.object_code import Workshop

_SCHEDULING = 0.5
"""The part of the time that scheduling takes, by experience; LLVM compiles meanwhile what is scheduled, and the rest then."""


class Code(Protocol):
    """Machine code of a target."""

    def function(self, name: str) -> Callable[..., Any]:
        """A kernel by name, callable in this process."""

    def library(self) -> bytes:
        """A shared object with all kernels."""


@dataclass(frozen=True)
class Compiled:
    """A compiled graph.

    `program` says which kernel runs on which tensors; `constants` holds the arrays of those of its weights that are in no
    weights file: tables of the graph. `rules` names the schedule rule that took each function; `functions` holds the
    TensorIR of those that did not come from the cache. `calls` holds, by functions' names, what each was made of; `choices`
    holds what measurements decided, by functions' names and by workloads of convolutions' forms.
    """

    program: Program
    code: Code
    constants: Mapping[str, np.ndarray]
    functions: Mapping[str, Any]
    rules: Mapping[str, str]
    calls: Mapping[str, Call] = field(default_factory=dict)
    choices: Mapping[str, Choice] = field(default_factory=dict)

    def function(self, name: str) -> Callable[..., Any]:
        """A kernel of the program, in this process."""
        return self.code.function(name)

    def library(self) -> bytes:
        """A shared object with all kernels of the program. Raises DlcError where no linker is found."""
        return self.code.library()

    def script(self) -> str:
        """The scheduled functions, in TVM's script."""
        return "\n\n".join(f.with_attr("global_symbol", name).script() for name, f in self.functions.items())


def compile_graph(
    graph: Graph, target: CpuTarget | CudaTarget, *, batch: int | None = None, options: BuildOptions = PLAIN
) -> Compiled:
    """Machine code and program for a graph whose passes are done.

    `batch` fixes the number of samples; without it the program serves any, with kernels of their own for a batch of one
    where that pays.
    """
    fuse = Fuse(rounds_beside=isinstance(target, CudaTarget))
    schedule = emit.order(Recompute()(Simplify(expand_norms=True)(graph)), fuse)
    functions = _Functions(target, batch, options)
    names = functions.of_all(schedule.calls)
    program = emit.program(schedule, names, batch, target)
    if target.device == "cpu":
        paired = not {"PairedRule", "PairedGradientRule"}.isdisjoint(functions.rules.values())
        tiles = paired and isinstance(target, CpuTarget) and "amx-bf16" in target.features
        program = msgspec.structs.replace(program, driver=DRIVER, tiles=tiles)
    return Compiled(
        program,
        functions.code(),
        schedule.constants,
        functions.scheduled,
        functions.rules,
        {name: call for (name, _), call in zip(names, schedule.calls, strict=True)},
        functions.cuts,
    )


class _Entry(msgspec.Struct, frozen=True):
    """A kernel in the cache: the rule that took it, whether it has a variant for a batch of one, its object file."""

    rule: str
    has_variant: bool
    code: bytes


@dataclass
class _Functions:
    """Makes the function of each kernel, one for all kernels that differ only in the tensors that they get.

    `scheduled` holds the functions to compile, `objects` the machine code of those that the cache has, `rules` both, in the
    order of their first use.
    """

    target: CpuTarget | CudaTarget
    batch: int | None
    options: BuildOptions
    scheduled: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)
    variants: dict[str, bool] = field(default_factory=dict)
    cuts: dict[str, Cut] = field(default_factory=dict)
    workshop: Workshop | None = None

    def of_all(self, calls: tuple[Call, ...]) -> list[tuple[str, str]]:
        """For each kernel the names of its function and of that's variant for a batch of one ("" where there is none)."""
        known: dict[Any, tuple[str, str]] = {}
        keys = [identity(call.kernel, call.in_place) for call in calls]
        total = len(set(keys))
        try:
            for key, call in zip(keys, calls, strict=True):
                if key not in known:
                    known[key] = self._of(call, key)
                    self._report(_SCHEDULING * len(known) / total)
        except BaseException:
            if self.workshop is not None:
                self.workshop.close()
            raise
        return [known[key] for key in keys]

    def code(self) -> Code:
        """The machine code of all functions, with the driver that runs them all."""
        if isinstance(self.target, CudaTarget):
            from dlc.compiler.codegen.cuda import CudaCode  # CUDA's packages are an extra

            return CudaCode(self.scheduled, self.target, self.options.cache)
        functions, objects = dict(self.scheduled), dict(self.objects)
        entry = self._cached(DRIVER)
        if entry is not None:
            objects[DRIVER] = entry.code
        else:
            with without_torch():
                from dlc.compiler.codegen.driver import driver

            functions[DRIVER] = driver()
        kept = self.options.cache is not None
        return CpuCode(functions, self.target, objects, self.workshop, self._keep, self._compiled, linked=kept)

    def _of(self, call: Call, key: Any) -> tuple[str, str]:
        name = self._make(call, key, self.batch)
        if self.batch is not None or not depends_on_batch(call.kernel) or not self.variants[name]:
            return name, ""
        return name, self._make(call, key, 1)

    def _make(self, call: Call, key: Any, batch: int | None) -> str:
        ops = [v.op.name for v in call.kernel.body]
        short = "_".join(ops[:4]) + (f"_{len(ops)}" if len(ops) > 4 else "")
        workload = digest(key, batch)
        cut = self.options.choices.cut(workload)
        name = f"{short}_{(workload if cut is None else digest(workload, cut))[:12]}"
        if name in self.rules:
            return name
        if cut is not None:
            self.cuts[name] = cut
        entry = self._cached(name)
        if entry is not None:
            self.objects[name] = entry.code
            self.rules[name], self.variants[name] = entry.rule, entry.has_variant
            return name
        with without_torch():
            from dlc.compiler.codegen.scheduling import schedule_kernel  # tvm: a second that full caches save

        made = schedule_kernel(call, name, batch, self.target, cut)
        self.scheduled[name] = made.function
        if self.options.cache is not None and isinstance(self.target, CpuTarget):  # its machine code will be asked for
            self.workshop = self.workshop or workshop_for(self.target)
            self.workshop.begin(name, made.function)
        self.rules[name], self.variants[name] = made.rule, made.specializes_batch_one
        return name

    def _key(self, name: str) -> str:
        assert isinstance(self.target, CpuTarget)
        return digest(name, self.target.identity, compiler_version())

    def _cached(self, name: str) -> _Entry | None:
        if self.options.cache is None or isinstance(self.target, CudaTarget):
            return None
        content = self.options.cache.get("kernels", self._key(name))
        try:
            return None if content is None else msgspec.msgpack.decode(content, type=_Entry)
        except msgspec.DecodeError:
            return None

    def _keep(self, objects: Mapping[str, bytes]) -> None:
        """Puts what was compiled into the cache."""
        if self.options.cache is None:
            return
        for name, code in objects.items():
            entry = _Entry(self.rules.get(name, ""), self.variants.get(name, False), code)
            self.options.cache.put("kernels", self._key(name), msgspec.msgpack.encode(entry))
        self.options.cache.trim()

    def _compiled(self, part: float) -> None:
        self._report(_SCHEDULING + (1 - _SCHEDULING) * part)

    def _report(self, part: float) -> None:
        if self.options.progress is not None:
            self.options.progress(part)
