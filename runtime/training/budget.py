"""Whether a machine has the memory that training takes, asked before it begins."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from pathlib import Path

from dlc.runtime.data.loader import AHEAD
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.memory import item_bytes, plan_memory
from dlc.runtime.plan import BATCH, Program

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


def require_memory(weights: int, programs: Iterable[Program], samples: int, available: int | None) -> None:
    """Raises RuntimeFault (R0207) where training would not fit.

    `weights` is the bytes of weights, optimizer state and averages; each program's arena is planned for its batch;
    `samples` is the batch as it is fed.
    """
    if available is None:
        return
    programs = tuple(programs)
    arenas = [plan_memory(p, EVALUATED if p.batch == BATCH else p.batch).peak for p in programs]
    image = sum(prod(s.shape[1:]) * item_bytes(s.dtype) for s in programs[0].inputs if len(s.shape) > 1)
    activations = max(arenas)
    needed = weights + sum(arenas) + image * samples * (AHEAD + 2)
    if needed > available:
        raise RuntimeFault(
            "R0207",
            f"training needs {_size(needed)} of memory ({_size(weights)} for weights, {_size(activations)} for the activations "
            f"of a step), but {_size(available)} are to be had",
            help="make `batch` smaller, or keep it and write `accumulate 4`",
        )


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GB" if count >= 2**30 else f"{count / 2**20:,.0f} MB"
