"""dlc against the field, side by side in one run: `python benchmarks/field.py [ROW …] [--threads 2] [--json FILE]`.

Contenders of a row take turns in short bursts, so that a machine whose speed drifts treats all alike; the figures are
medians over all calls. Every row first checks that the contenders' results agree. Needs the extra `[bench]`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

SPECS = Path(__file__).parent.parent / "specs"


def alternate(contenders: Mapping[str, Callable[[], Any]], *, rounds: int, seconds: float) -> dict[str, float]:
    """Median milliseconds per call of each contender; each is warmed up at the start of each of its turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for _ in range(rounds):
        for name, call in contenders.items():
            settle = time.perf_counter() + seconds / 4
            while time.perf_counter() < settle:
                call()
            stop = time.perf_counter() + seconds
            while True:
                started = time.perf_counter()
                call()
                ended = time.perf_counter()
                times[name].append((ended - started) * 1e3)
                if ended >= stop:
                    break
    return {name: statistics.median(values) for name, values in times.items()}


def forward(
    spec: str, model: str, module_name: str, shape: tuple[int, ...], threads: int, seconds: float
) -> dict[str, Any]:
    """One forward call from Python with a numpy array."""
    import peers

    from dlc import api

    network = api.networks(SPECS / spec, model=model)[0]
    weights = api.fresh_weights(network)
    net = api.compile_network(network, weights=weights, threads=threads)
    image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    module = peers.load(getattr(peers, module_name)(), weights)
    contenders = {"dlc": lambda: net(image), **peers.forward_contenders(module, image, threads)}
    results = {name: np.array(call()) for name, call in contenders.items()}
    for name, result in results.items():
        error = np.abs(result - results["PyTorch"]).max() / np.abs(results["PyTorch"]).max()
        assert error < 1e-4, f"{name} disagrees with PyTorch by {error:.1e}"
    return {"unit": "ms", "medians": alternate(contenders, rounds=8, seconds=seconds)}


def lenet5_forward(threads: int) -> dict[str, Any]:
    """LeNet-5, one image."""
    return forward("lenet5.dlspec", "LeNet5", "LeNet5", (1, 1, 32, 32), threads, 0.25)


def resnet18_forward(threads: int) -> dict[str, Any]:
    """ResNet-18, one image, random weights."""
    return forward("resnet.dlspec", "ResNet18", "ResNet18", (1, 3, 224, 224), threads, 0.7)


def training(
    recipe: str, module_name: str, shape: tuple[int, ...], classes: int, threads: int, seconds: float
) -> dict[str, Any]:
    """One training step: forward, backward, SGD with momentum, on the recipe's batch."""
    import peers
    import torch

    from dlc import api
    from dlc.training import TrainingSession

    torch.set_num_threads(threads)
    resolved = api.recipe_of(Path(__file__).parent / "training_steps.dlspec", recipe)
    generator = np.random.default_rng(0)
    images = generator.standard_normal((resolved.batch, *shape), dtype=np.float32)
    labels = generator.integers(0, classes, resolved.batch, dtype=np.int32)
    session = TrainingSession(resolved, threads=threads)
    weights = api.fresh_weights(resolved.network)
    session.set_weights(weights)
    names = [spec.name for spec in session.step.program.inputs]
    known = {
        "train.labels": labels,
        "train.rate.0": np.float32(0.01),
        "train.step": np.uint32(0),
        "train.seed": np.uint32(0),
    }
    feeds = {name: known.get(name, images) for name in names}

    def ours() -> float:
        return float(session.step.run(feeds)["train.loss"])

    make = getattr(peers, module_name)
    contenders = {
        "dlc": ours,
        **peers.training_contenders(lambda: peers.load(make(), weights), images, labels, 0.01, 0.9),
    }
    curves = {name: [call() for _ in range(4)] for name, call in contenders.items()}
    for name, curve in curves.items():
        assert np.allclose(curve, curves["PyTorch eager"], rtol=1e-3), f"{name} trains differently: {curves}"
    return {"unit": "ms", "medians": alternate(contenders, rounds=8, seconds=seconds)}


def lenet5_training(threads: int) -> dict[str, Any]:
    """LeNet-5, one training step (forward, backward, SGD with momentum), batch 64."""
    return training("LeNet5Step", "LeNet5", (1, 32, 32), 10, threads, 0.4)


def resnet18_training(threads: int) -> dict[str, Any]:
    """ResNet-18, one training step (forward, backward, SGD with momentum), batch 8."""
    return training("ResNet18Step", "ResNet18", (3, 224, 224), 1000, threads, 1.0)


def startup(threads: int) -> dict[str, Any]:
    """A fresh process: import, `dlc.load` of LeNet-5, first result; milliseconds and peak memory."""
    from dlc import api

    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder, "lenet5.dlc")
        api.compile_to_file(SPECS / "lenet5.dlspec", artifact, model="LeNet5")
        program = (
            "import sys, numpy as np, dlc\n"
            f"net = dlc.load({str(artifact)!r}, threads={threads})\n"
            "net(np.zeros((1, 1, 32, 32), np.float32))\n"
            "assert 'tvm' not in sys.modules\n"
            "print(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])\n"
        )
        times, memory = [], 0.0
        for _ in range(11):
            started = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            times.append((time.perf_counter() - started) * 1e3)
            memory = float(done.stdout) / 1e3
    return {"unit": "ms", "medians": {"dlc": statistics.median(times)}, "peak_mb": memory}


def compile_cold(threads: int) -> dict[str, Any]:
    """`dlc compile` of LeNet-5 and ResNet-18 in a fresh process, whole process."""
    medians = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, spec, model in (("LeNet-5", "lenet5.dlspec", "LeNet5"), ("ResNet-18", "resnet.dlspec", "ResNet18")):
            command = [
                sys.executable,
                "-m",
                "dlc",
                "compile",
                str(SPECS / spec),
                "--model",
                model,
                "-o",
                f"{folder}/m.dlc",
            ]
            medians[name] = process_ms(command, 3)
    return {"unit": "ms", "medians": medians}


def check(threads: int) -> dict[str, Any]:
    """`dlc check` of the largest shipped spec, whole process."""
    largest = max(SPECS.rglob("*.dlspec"), key=lambda p: p.stat().st_size)
    slowest = {
        p.name: process_ms([sys.executable, "-m", "dlc", "check", str(p)], 7)
        for p in (largest, SPECS / "resnet.dlspec")
    }
    return {"unit": "ms", "medians": slowest}


def process_ms(command: list[str], runs: int) -> float:
    """Median wall time of a whole process, in milliseconds, Python's bytecode cached as it is after any first run."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


ROWS = {
    f.__name__: f
    for f in (lenet5_forward, resnet18_forward, lenet5_training, resnet18_training, startup, compile_cold, check)
}


def main() -> None:
    """Runs the rows and prints a table per row with the ratios to dlc."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    report: dict[str, Any] = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "threads": options.threads,
    }
    for name in options.rows or ROWS:
        row = ROWS[name](options.threads)
        report[name] = row
        print(f"\n{name}: {(ROWS[name].__doc__ or '').strip()}")
        ours = row["medians"].get("dlc")
        for contender, value in row["medians"].items():
            ratio = f"  {value / ours:6.2f} x dlc" if ours else ""
            print(f"  {contender:<32} {value:10.4f} {row['unit']}{ratio}")
        if "peak_mb" in row:
            print(f"  {'peak memory':<32} {row['peak_mb']:10.1f} MB")
        sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
