"""Kernels in several cuts, in this process: what a search compiles and measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm_ffi import structural_equal

from dlc.compiler.choices import Cut
from dlc.compiler.codegen.build import CpuCode
from dlc.compiler.codegen.emit import Call
from dlc.compiler.codegen.scheduling import schedule_kernel
from dlc.compiler.codegen.target import CpuTarget


@dataclass(frozen=True)
class Candidate:
    """A kernel for `batch` samples (None: any number), cut as its model says or by `cut`."""

    call: Call
    batch: int | None
    cut: Cut | None = None


def compile_candidates(candidates: Sequence[Candidate], target: CpuTarget) -> list[Callable[..., Any]]:
    """The function of each candidate, compiled side by side on all cores."""
    functions = {
        f"candidate_{number}": schedule_kernel(c.call, "a candidate", c.batch, target, c.cut).function
        for number, c in enumerate(candidates)
    }
    code = CpuCode(functions, target)
    return [code.function(name) for name in functions]


def is_the_model_s(candidate: Candidate, target: CpuTarget) -> bool:
    """Whether the cut gives the function that the model's choice gives: there is nothing to measure then."""
    own = schedule_kernel(candidate.call, "a candidate", candidate.batch, target, candidate.cut).function
    other = schedule_kernel(candidate.call, "a candidate", candidate.batch, target).function
    return bool(structural_equal(own, other))
