"""Peaks of GPUs by name: operations and bytes a second, as NVIDIA's data sheets and architecture papers give them, without sparsity."""

from __future__ import annotations

T = 1e12


def _peaks(fp32: float, tf32: float, half: float, memory: float) -> dict[str, float]:
    """`half` is of tensor cores with 16-bit factors and float32 sums."""
    half *= T
    return {"float32": fp32 * T, "tf32": tf32 * T, "float16": half, "bfloat16": half, "memory": memory * T}


CHIPS = {
    "H200 NVL": _peaks(60, 417.5, 835.5, 4.8),
    "H200": _peaks(66.9, 494.7, 989.4, 4.8),
    "H100 NVL": _peaks(60, 417.5, 835.5, 3.9),
    "H100 PCIe": _peaks(51, 378, 756.5, 2.0),
    "H100": _peaks(66.9, 494.7, 989.4, 3.35),
    "A100 40GB": _peaks(19.5, 156, 312, 1.555),
    "A100 80GB PCIe": _peaks(19.5, 156, 312, 1.935),
    "A100": _peaks(19.5, 156, 312, 2.039),
    "L40S": _peaks(91.6, 183, 362.05, 0.864),
    "L40": _peaks(90.5, 90.5, 181.05, 0.864),
    "L4": _peaks(30.3, 60, 121, 0.3),
    "RTX 4090": _peaks(82.6, 82.6, 165.2, 1.008),
}
"""Peaks by precision, and "memory", by words that the driver's name of a GPU contains, the first that fits; those without PCIe or NVL are the SXM modules."""


def peaks_of(name: str) -> dict[str, float]:
    """The peaks of a GPU by the driver's name for it ("NVIDIA A100-SXM4-40GB"); {} where it is in no table."""
    words = set(name.replace(",", " ").replace("-", " ").replace("PCIE", "PCIe").split())
    return next((peaks for chip, peaks in CHIPS.items() if words.issuperset(chip.split())), {})
