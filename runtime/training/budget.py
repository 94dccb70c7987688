"""Whether a machine has the memory that training takes, asked before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from dlc.runtime.data.loader import AHEAD
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.memory import item_bytes
from dlc.runtime.plan import Program

EVALUATED = 250
"""Samples that evaluation takes at a time."""


def available_memory() -> int | None:
    """Bytes that a process can still get without the machine running out, by Linux' account; None elsewhere."""
    found = []
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(int(facts["MemAvailable"].split()[0]) * 1024)
        limit, used = (Path("/sys/fs/cgroup", name).read_text().strip() for name in ("memory.max", "memory.current"))
        if limit != "max":
            found.append(int(limit) - int(used))
    except (OSError, KeyError, ValueError):
        pass  # no Linux, or no group with a limit
    return min(found, default=None)


@dataclass(frozen=True)
class Need:
    """The bytes that training takes: `weights` with the optimizer's state, averages and gradients that are added up; `arena`, which
    holds the activations and gradients of a step and then those of evaluation; `samples`, the batches that wait."""

    weights: int
    arena: int
    samples: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.arena + self.samples

    def __str__(self) -> str:
        return (
            f"{size_text(self.total)} of memory ({size_text(self.weights)} for weights, {size_text(self.arena)} for the "
            f"activations of a step, {size_text(self.samples)} for samples)"
        )


def sample_bytes(step: Program, batch: int) -> int:
    """What the samples take that a step reads and that wait for it, or that evaluation does."""
    image = sum(prod(s.shape[1:]) * item_bytes(s.dtype) for s in step.inputs if len(s.shape) > 1)
    return image * max(batch * (AHEAD + 2), EVALUATED)


def require_memory(need: Need, available: int | None) -> None:
    """Raises RuntimeFault (R0207) where training would not fit."""
    if available is None or need.total <= available:
        return
    raise RuntimeFault(
        "R0207",
        f"training needs {need}, but {size_text(available)} are to be had",
        help="write `memory` and how much it may take, make `batch` smaller, or keep it and write `accumulate 4`",
    )


def size_text(count: int) -> str:
    """Bytes as people read them."""
    for unit, name in ((2**30, "GB"), (2**20, "MB")):
        if count >= unit:
            return f"{count / unit:,.0f} {name}" if count >= 10 * unit else f"{count / unit:.1f} {name}"
    return f"{count / 2**10:,.0f} KB"
