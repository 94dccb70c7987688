"""Peaks of GPUs by the names that drivers give them."""

import pytest

from dlc.runtime.chips import peaks_of


@pytest.mark.parametrize(
    ("name", "half", "memory"),
    [
        ("NVIDIA A100-SXM4-40GB", 312e12, 1.555e12),
        ("NVIDIA A100-SXM4-80GB", 312e12, 2.039e12),
        ("NVIDIA A100 80GB PCIe", 312e12, 1.935e12),
        ("NVIDIA A100-PCIE-40GB", 312e12, 1.555e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12, 3.35e12),
        ("NVIDIA H100 PCIe", 756.5e12, 2.0e12),
        ("NVIDIA H200", 989.4e12, 4.8e12),
        ("NVIDIA L40S", 362.05e12, 0.864e12),
        ("NVIDIA L4", 121e12, 0.3e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12, 1.008e12),
    ],
)
def test_a_chip_is_known_by_the_driver_s_name(name: str, half: float, memory: float) -> None:
    peaks = peaks_of(f"{name}, compute capability 9.0")

    assert (peaks["float16"], peaks["memory"]) == (pytest.approx(half), pytest.approx(memory))
    assert peaks_of("NVIDIA L400") == {}
