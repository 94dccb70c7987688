"""`dlc` as a process: seconds to compile with and without the cache, to start, and to check the largest spec."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from networks import NETS

COMPILED = ("lenet5", "resnet18", "resnet50", "vgg16")


def measure(threads: int) -> dict[str, dict[str, float]]:
    """Seconds of whole processes, by network: `dlc compile` with an empty cache ("cold"), then with its own kernels in it
    ("cached"); a fresh process that loads the artifact and runs it once ("load")."""
    from modules import make_weights

    figures = {}
    for name in COMPILED:
        net = NETS[name]
        with tempfile.TemporaryDirectory(prefix="dlc-bench-") as folder:
            artifact = Path(folder, "model.dlc")
            weights = Path(folder, "weights.safetensors")
            make_weights(net, weights, training=True)
            command = [sys.executable, "-m", "dlc", "compile", str(net.path), "--model", net.model]
            command += ["--weights", str(weights), "-o", str(artifact)]
            environment = {**os.environ, "XDG_CACHE_HOME": folder}
            shape = (1, *net.shape)
            load = (
                "import numpy as np, dlc\n"
                f"dlc.load({str(artifact)!r}, threads={threads})(np.zeros({shape}, np.float32))"
            )
            cold = _seconds(command, environment, 1)
            figures[net.name] = {
                "cold": cold,
                "cached": _seconds(command, environment, 7),
                "load": _seconds([sys.executable, "-c", load], environment, 5),
            }
    return figures


def _seconds(command: list[str], environment: dict[str, str], runs: int) -> float:
    """The median wall time of a whole process, Python's bytecode cached as it is after any first run."""
    environment = {key: value for key, value in environment.items() if key != "PYTHONDONTWRITEBYTECODE"}
    if runs > 1:
        subprocess.run(command, check=True, capture_output=True, env=environment)
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        times.append(time.perf_counter() - started)
    return statistics.median(times)
