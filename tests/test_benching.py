"""`dlc bench`: rows of kernels against the machine's peaks, training steps, wrong usage."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import dlc
from dlc import benching
from dlc.compiler.codegen import peaks as peaks_module
from dlc.compiler.codegen.cache import Cache
from dlc.compiler.codegen.peaks import Peaks, machine_peaks
from dlc.runtime.device import Device
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.executor import StepTime

SPECS = Path(dlc.__file__).parent / "specs"


def step(seconds: float, flops: int, moved: int) -> StepTime:
    return StepTime("layer", "what", "kernel", seconds, flops, moved)


def test_a_kernel_is_bound_by_what_takes_longer_at_the_peak() -> None:
    peaks = Peaks(2, flops=100e9, bytes=10e9)
    convolution, copy, idle = benching.kernel_rows(
        [step(0.02, int(1e9), int(1e6)), step(0.001, 1000, int(5e6)), step(0.001, 0, 0)], peaks
    )

    assert (convolution["bound"], convolution["share"]) == ("compute", pytest.approx(0.5))
    assert convolution["gflops"] == pytest.approx(50)
    assert (copy["bound"], copy["share"], copy["gbps"]) == ("memory", pytest.approx(0.5), pytest.approx(5))
    assert idle["share"] == 0


def test_the_machine_s_peaks_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks_module, "_SECONDS", 0.05)
    monkeypatch.setattr(peaks_module, "_PATIENCE", 0.05)
    found = peaks_module._measure(1)
    monkeypatch.setattr(peaks_module, "_measure", lambda threads: found)
    first = machine_peaks(1, Cache(tmp_path))
    monkeypatch.setattr(peaks_module, "_measure", lambda threads: pytest.fail("measured again"))

    assert machine_peaks(1, Cache(tmp_path)) == first
    assert first.flops > 1e9
    assert first.bytes > 1e8
    assert not first.disturbed  # one core cannot be slower than itself


def test_what_was_measured_on_a_busy_machine_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, quiet = Peaks(2, 1e9, 1e9, disturbed=True), Peaks(2, 2e9, 2e9)
    results = iter([busy, quiet])
    monkeypatch.setattr(peaks_module, "_measure", lambda threads: next(results))

    assert machine_peaks(2, Cache(tmp_path)) == busy
    assert machine_peaks(2, Cache(tmp_path)) == quiet
    assert machine_peaks(2, Cache(tmp_path)) == quiet


def test_every_kernel_of_a_training_step_has_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks_module, "_measure", lambda threads: Peaks(threads, 1e11, 1e10))
    result = benching.bench_step(SPECS / "lenet5.dlspec", seconds=0.1, layers=True)

    assert result.batch == 64
    assert result.median_ms > 0
    kernels = {(row["layer"], row["what"].split("+")[0]) for row in result.layers}
    assert any(layer == "c3" and what.endswith("weight_gradient") for layer, what in kernels)
    assert all(row["ms"] > 0 and row["bound"] in ("compute", "memory") for row in result.layers)
    c3 = next(
        row for row in result.layers if row["layer"] == "c3" and "conv2d+add" in row["what"]
    )  # or winograd_conv2d
    # 10 x 10 results of 16 channels from 6 x 5 x 5 inputs, a bias and a tanh for each
    assert c3["gflops"] * c3["ms"] * 1e6 == pytest.approx(64 * 16 * 100 * (2 * 150 + 2))


def test_a_spec_without_a_recipe_has_no_training_step(tmp_path: Path) -> None:
    spec = tmp_path / "plain.dlspec"
    spec.write_text("model M {\n    input x: [1, 8, 8]\n    x -> conv(3, 3) -> output y\n}\n")

    with pytest.raises(dlc.DlcError, match="E0830"):
        benching.bench_step(spec)


def test_an_artifact_has_no_models_to_choose_from() -> None:
    with pytest.raises(RuntimeFault, match="R0217"):
        benching.bench("model.dlc", model="Net")


def test_an_artifact_has_its_target_and_precision() -> None:
    for option in ({"target": "cuda"}, {"precision": "fp16"}):
        with pytest.raises(RuntimeFault, match="is compiled already") as caught:
            benching.bench("model.dlc", **option)
        assert caught.value.code == "R0217"


def test_a_spec_is_measured_in_a_precision() -> None:
    result = benching.bench(SPECS / "lenet5.dlspec", model="LeNet5", precision="bf16", seconds=0.05)

    assert result.median_ms > 0
    with pytest.raises(dlc.DlcError, match="kernels for cpu have no float16"):
        benching.bench(SPECS / "lenet5.dlspec", model="LeNet5", precision="fp16")


def test_kernels_on_a_gpu_are_held_against_its_data_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    net = SimpleNamespace(manifest=SimpleNamespace(program=SimpleNamespace(device="cuda"), precision="float16"))
    monkeypatch.setattr(benching, "cuda_device", lambda: Device("cuda", True, "NVIDIA L4, sm_89"))
    assert benching._peaks_for(net, None) == Peaks(0, 121e12, 0.3e12)  # type: ignore[arg-type]  # no GPU is here

    monkeypatch.setattr(benching, "cuda_device", lambda: Device("cuda", True, "NVIDIA Unheard Of, sm_89"))
    assert benching._peaks_for(net, None) is None  # type: ignore[arg-type]  # no GPU is here
