"""The folder for GPU machines, tried out with code for this processor: it runs, compares and writes its results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
    assert results["check LeNet5"]["fine"]
    assert set(results["dlc LeNet5"]["forward"]) == {"1", "32", "256"}
    assert results["dlc LeNet5.step"]["step"] > 0
