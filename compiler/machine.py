"""The facts of a processor that decide what is worth doing: what the cost models of passes and schedules know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """`lanes` float32 numbers in a vector and `registers` vectors; two products of vectors and two loads a cycle.

    Cache sizes in bytes, `l1` and `l2` of one core, `l3` of all. Rates in bytes a cycle: from the second and third level for
    one core, from memory for all cores together.
    """

    lanes: int
    registers: int
    cores: int
    l1: int
    l2: int
    l3: int
    l2_rate: float = 40.0
    l3_rate: float = 20.0
    memory_rate: float = 10.0
