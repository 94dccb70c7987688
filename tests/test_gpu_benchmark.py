"""The folder for GPU machines, tried out with code for this processor: it runs, compares and writes its results."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from dlc.compiler.ops.rounding import Round
from dlc.runtime.plan import WeightSpec

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_the_folder_checks_and_measures_with_one_command(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    prepare = [
        sys.executable,
        BENCHMARKS / "gpu.py",
        folder,
        "--target",
        "cpu",
        "--nets",
        "lenet5",
        "--train",
        "lenet5",
    ]
    made = subprocess.run(prepare, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr

    done = subprocess.run([sys.executable, folder / "gpu_run.py", "--no-torch"], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((folder / "results.json").read_text())
    for precision in ("fp32", "bf16"):  # those that processors have
        assert results[f"check LeNet5.{precision}"]["fine"]
        assert set(results[f"dlc LeNet5.{precision}"]["forward"]) == {"1", "32", "256"}
    for precision in ("tf32", "bf16"):
        assert results[f"dlc LeNet5.{precision}.step"]["step"] > 0


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def test_the_summary_holds_the_goals_against_what_was_measured(modules: Callable[[str], ModuleType]) -> None:
    theirs = [
        {"precision": "tf32", "forward": {1: 4e-3, 256: 30e-3}, "step": 0.2},
        {"precision": "fp16", "forward": {1: 4e-3, 256: 20e-3}, "step": 0.1},
    ]
    results = {
        "device": {"name": "a GPU"},
        "dlc Net.tf32": {"forward": {1: 1e-3, 256: 60e-3}},
        "dlc Net.fp16": {"forward": {1: 3e-3, 256: 25e-3}},
        "dlc Net.bf16.step": {"step": 0.05},
        "PyTorch Net eager": theirs,
        "PyTorch Other eager": {"fault": "out of memory"},
    }

    assert modules("gpu_run").summary(results) == [
        "Net against PyTorch eager in tf32: batch 1: 4.00, batch 256: 0.50 times as fast",
        "  goal met: one image in tf32 2.0 times as fast as eager (4.00)",
        "Net against PyTorch eager in fp16: batch 1: 1.33, batch 256: 0.80, step in bf16: 2.00 times as fast",
        "  goal missed: one image in fp16 2.0 times as fast as eager (1.33)",
        "  goal met: 256 images in fp16 0.7 of PyTorch eager (0.80)",
    ]


def test_weights_that_the_folder_does_not_hold_are_drawn_as_they_were_rounded(
    modules: Callable[[str], ModuleType],
) -> None:
    run = modules("gpu_run")
    for dtype, precision in (("float32", "tf32"), ("float16", "float16"), ("float32", "float32")):
        spec = WeightSpec("layer.weight", (40, 30), dtype)
        exact = run.drawn("layer.weight", (40, 30))

        made = run.placed(spec, precision)

        right = exact if precision == "float32" else Round(11).reference(exact)
        np.testing.assert_allclose(made.astype(np.float32), right, atol=2.0**-25)  # float16's least numbers are coarser
        assert made.dtype == dtype
