"""The facts of a processor that decide what is worth doing: what the cost models of passes and schedules know."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Machine:
    """`lanes` float32 numbers in a vector and `registers` vectors; two products of vectors and two loads a cycle.

    Cache sizes in bytes, `l1` and `l2` of one core, `l3` of all. Rates in bytes a cycle: from the second and third level for
    one core, from memory for all cores together. They are those of processors whose cores share a third level in small
    groups; `on_mesh` has those of large servers.
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


MESH_L2 = 2**20
"""Bytes of the second level from which on an Intel processor with AVX-512 is taken for one with a mesh."""

MESH_SHARE = 8 * 2**20
"""Bytes of the third level that a core has for itself, at least in practice, where many share it."""


def on_mesh(machine: Machine) -> Machine:
    """The machine with the rates of processors whose third level many cores share through a mesh (Intel's servers since 2017).

    Measured on two cores of a Sapphire Rapids at 2.4 GHz: 20 GB/s from the third level for each core as long as both read less than
    16 MB of its 105, which many others use too; 10 to 13 GB/s beyond, for both.
    """
    return replace(machine, l3=min(machine.l3, machine.cores * MESH_SHARE), l3_rate=8.0, memory_rate=5.0)
