"""Devices: what this machine has, and clear words for what it lacks."""

from __future__ import annotations

import ctypes

import pytest

from dlc.runtime import device
from dlc.runtime.errors import RuntimeFault


def test_the_processor_is_always_there_and_described() -> None:
    cpu = device.devices()[0]

    assert cpu.name == "cpu" and cpu.available
    assert "core" in cpu.detail


def test_a_machine_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(device.ctypes, "CDLL", missing)
    device.cuda_device.cache_clear()
    try:
        cuda = device.cuda_device()
        assert not cuda.available and "libcuda.so.1" in cuda.detail
        with pytest.raises(RuntimeFault, match=r"R0108.*compiled for cuda.*libcuda.so.1[\s\S]*--target cpu"):
            device.require_device("cuda")
    finally:
        device.cuda_device.cache_clear()


def test_code_for_this_machine_is_accepted() -> None:
    device.check_cpu(f"{device.machine()}-linux-gnu", tuple(sorted(device.cpu_features() or ())))


def test_features_that_linux_does_not_report_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cpu_features", lambda: None)

    device.check_cpu(f"{device.machine()}-linux-gnu", ("avx512f",))


@pytest.mark.skipif(device.machine() != "x86_64", reason="names of x86 features")
def test_missing_features_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cpu_features", lambda: frozenset({"avx2"}))

    with pytest.raises(RuntimeFault, match=r"needs a processor with avx512f, avx512vnni, which this one lacks"):
        device.check_cpu("x86_64-linux-gnu", ("avx2", "avx512f", "avx512vnni", "a-feature-not-known"))


@pytest.mark.parametrize(
    "target, fits", [("cuda", True), ("cuda:sm_90", True), ("cuda:sm_80", False), ("cuda:sm_100", False)]
)
def test_code_for_another_gpu_is_refused_with_the_target_that_fits(
    target: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "cuda_device", lambda: device.Device("cuda", True, "NVIDIA H200, sm_90"))

    if fits:
        device.require_device("cuda", target)
    else:
        with pytest.raises(RuntimeFault, match=r"R0107.*this machine's is NVIDIA H200[\s\S]*cuda:sm_90"):
            device.require_device("cuda", target)


def test_code_runs_on_later_minor_versions_and_portable_code_from_8_0_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_device", lambda: device.Device("cuda", True, "NVIDIA GeForce RTX 4090, sm_89"))
    device.require_device("cuda", "cuda:sm_80")

    monkeypatch.setattr(device, "cuda_device", lambda: device.Device("cuda", True, "Tesla T4, sm_75"))
    with pytest.raises(RuntimeFault, match=r"R0107.*8\.0.*T4"):
        device.require_device("cuda", "cuda")


def test_a_system_that_refuses_the_matrix_unit_is_a_fault_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def syscall(self, *arguments: int) -> int:
            return -1

    monkeypatch.setattr(device.ctypes, "CDLL", lambda *_, **__: Refusing())

    with pytest.raises(RuntimeFault, match=r"matrix unit \(AMX\)") as fault:
        device.request_tiles.__wrapped__()

    assert fault.value.code == "R0109" and "--target x86-64-v4" in str(fault.value)
