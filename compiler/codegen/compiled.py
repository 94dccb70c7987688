"""Graph -> machine code and program: the way through code generation, from fused kernels to a library."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import numpy as np
from tvm.s_tir import Schedule

from dlc.compiler.codegen import emit
from dlc.compiler.codegen.build import CpuCode
from dlc.compiler.codegen.divisions import guard_divisions
from dlc.compiler.codegen.driver import DRIVER
from dlc.compiler.codegen.emit import Call
from dlc.compiler.codegen.function import blocks_of, depends_on_batch, identity, lower, share_buffers
from dlc.compiler.codegen.prefetch import insert_prefetches
from dlc.compiler.codegen.schedules.base import KernelBlocks, ScheduleRule
from dlc.compiler.codegen.schedules.cpu import rules
from dlc.compiler.codegen.target import CpuTarget, CudaTarget
from dlc.compiler.ir import Graph
from dlc.compiler.passes import Recompute, Simplify
from dlc.runtime.plan import Program


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
    weights file: tables of the graph. `rules` names the schedule rule that took each function; `functions` holds their
    TensorIR.
    """

    program: Program
    code: Code
    constants: Mapping[str, np.ndarray]
    functions: Mapping[str, Any]
    rules: Mapping[str, str]

    def function(self, name: str) -> Callable[..., Any]:
        """A kernel of the program, compiled in this process."""
        return self.code.function(name)

    def library(self) -> bytes:
        """A shared object with all kernels of the program. Raises DlcError where no linker is found."""
        return self.code.library()

    def script(self) -> str:
        """The scheduled functions, in TVM's script."""
        return "\n\n".join(f.with_attr("global_symbol", name).script() for name, f in self.functions.items())


def compile_graph(graph: Graph, target: CpuTarget | CudaTarget, *, batch: int | None = None) -> Compiled:
    """Machine code and program for a graph whose passes are done.

    `batch` fixes the number of samples; without it the program serves any, with kernels of their own for a batch of one
    where that pays.
    """
    schedule = emit.order(Recompute()(Simplify(expand_norms=True)(graph)))
    functions = _Functions(target, batch)
    names = [functions.of(call) for call in schedule.calls]
    device = "cuda" if isinstance(target, CudaTarget) else "cpu"
    program = emit.program(schedule, names, batch, device)
    if device == "cpu":
        program = msgspec.structs.replace(program, driver=DRIVER)
    return Compiled(program, functions.code(), schedule.constants, functions.scheduled, functions.rules)


@dataclass
class _Functions:
    """Makes the function of each kernel, one for all kernels that differ only in the tensors that they get."""

    target: CpuTarget | CudaTarget
    batch: int | None
    scheduled: dict[str, Any] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)
    known: dict[Hashable, tuple[str, str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def of(self, call: Call) -> tuple[str, str]:
        """The names of the kernel's function and of its variant for a batch of one ("" where there is none)."""
        key = identity(call.kernel, call.in_place)
        if key not in self.known:
            self.known[key] = self._make(call)
        return self.known[key]

    def code(self) -> Code:
        """The machine code of all functions made."""
        if isinstance(self.target, CudaTarget):
            from dlc.compiler.codegen.cuda import CudaCode  # CUDA's packages are an extra

            return CudaCode(self.scheduled, self.target)
        return CpuCode(self.scheduled, self.target)

    def _make(self, call: Call) -> tuple[str, str]:
        name = self._name(call)
        rule = self._schedule(call, name, self.batch)
        if self.batch is not None or not depends_on_batch(call.kernel) or not (rule and rule.specializes_batch_one):
            return name, ""
        name_one = f"{name}_one"
        self._schedule(call, name_one, 1)
        return name, name_one

    def _name(self, call: Call) -> str:
        ops = [v.op.name for v in call.kernel.body]
        short = "_".join(ops[:4]) + (f"_{len(ops)}" if len(ops) > 4 else "")
        self.counts[short] = number = self.counts.get(short, -1) + 1
        return f"{short}_k{number}"

    def _schedule(self, call: Call, name: str, batch: int | None) -> ScheduleRule | None:
        function = lower(call.kernel, batch, self.target)
        if isinstance(self.target, CudaTarget):
            from dlc.compiler.codegen.schedules.cuda import schedule_function

            scheduled, self.rules[name] = schedule_function(function, self.target)
            self.scheduled[name] = share_buffers(guard_divisions(scheduled), call.in_place)
            return None
        schedule = Schedule(function)
        blocks = blocks_of(schedule)
        rule = apply_rule(schedule, blocks, self.target)
        if rule is None:
            raise AssertionError(
                f"no schedule rule takes {name} (anchor {blocks.kind}) of layer {call.kernel.label or '?'}: "
                f"{call.kernel.what}\n{schedule.mod['main'].script()}"
            )
        self.rules[name] = type(rule).__name__
        function = insert_prefetches(guard_divisions(schedule.mod["main"]))
        self.scheduled[name] = share_buffers(function, call.in_place)
        return rule


def apply_rule(schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> ScheduleRule | None:
    """Schedules a kernel by the first rule that takes it; None where none does."""
    for rule in rules():
        if blocks.kind in rule.anchors and rule.apply(schedule, blocks, target):
            return rule
    return None
