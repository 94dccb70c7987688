"""Checks and measures the models of the folder in which this file lies, on the GPU of this machine: `python gpu_run.py`.

Each forward pass is compared with the output that a processor gave, an epoch of training with its losses. Then latency and
throughput are measured, those of PyTorch too where it is installed. The results are printed and written to results.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if (HERE / "packages").is_dir():
    sys.path.insert(0, str(HERE / "packages"))

import numpy as np  # noqa: E402

from dlc.runtime.arrays import aligned_copy  # noqa: E402
from dlc.runtime.artifact import load_artifact  # noqa: E402
from dlc.runtime.device import cuda_device  # noqa: E402
from dlc.runtime.plan import Program  # noqa: E402
from dlc.runtime.session import executor_of  # noqa: E402

SAMPLES = 2
"""Samples of a comparison."""

BATCHES = (1, 32, 256)
TOLERANCE = {"float32": 1e-4, "tf32": 1e-3}
PEAKS = {
    "H200": {"fp32": 67e12, "tf32": 495e12, "fp16": 989e12, "memory": 4.8e12},
    "H100": {"fp32": 67e12, "tf32": 495e12, "fp16": 989e12, "memory": 3.35e12},
    "A100": {"fp32": 19.5e12, "tf32": 156e12, "fp16": 312e12, "memory": 2.04e12},
    "L40S": {"fp32": 91.6e12, "tf32": 183e12, "fp16": 362e12, "memory": 0.864e12},
    "L4": {"fp32": 30.3e12, "tf32": 60e12, "fp16": 121e12, "memory": 0.3e12},
}
"""Operations and bytes a second by the chip's name: NVIDIA's data sheets, dense, the SXM or 80 GB version."""

_CURVE = 0.02  # an epoch's losses, averaged over fiftieths of it, may differ by this part


def drawn(name: str, shape: Sequence[int]) -> np.ndarray:
    """A weight out of its name's own random numbers, in He's scale; vectors are small, so that sums stay in range."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    fan = int(np.prod(shape[1:])) if len(shape) > 1 else 400
    values = generator.standard_normal(tuple(shape), np.float32) * np.float32(np.sqrt(2 / max(fan, 1)))
    return np.abs(values) + 1 if name.endswith(("var", "variance")) else values


def images(shape: Sequence[int], batch: int, seed: int = 0) -> np.ndarray:
    """The same random images on every machine."""
    return np.random.default_rng(seed).standard_normal((batch, *shape[1:]), np.float32)


def opened(path: Path) -> Any:
    """What runs an artifact, with drawn weights for those that it lacks."""
    artifact = load_artifact(path)
    weights = dict(artifact.weights)
    for spec in artifact.manifest.program.weights:
        if spec.name not in weights:
            array = drawn(spec.name, spec.layout.canonical_shape if spec.layout is not None else spec.shape)
            array = array if spec.layout is None else spec.layout.pack(array)
            weights[spec.name] = np.zeros_like(array) if spec.role == "state" else array
    arrays = {name: aligned_copy(array) for name, array in weights.items()}
    return executor_of(artifact.manifest.program, artifact.code, arrays)


def epoch(run: Callable[[Mapping[str, Any]], Mapping[str, Any]], program: Program, folder: Path) -> np.ndarray:
    """The losses of an epoch over MNIST in the order of its files, at a rate of 0.01."""
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    losses = []
    batch = program.batch
    for step, start in enumerate(range(0, len(labels) - batch + 1, batch)):
        inputs: dict[str, Any] = {}
        for spec in program.inputs:
            if len(spec.shape) == 4:
                edge = (spec.shape[2] - 28) // 2
                padded = np.pad(pixels[start : start + batch], [(0, 0), (0, 0), (edge, edge), (edge, edge)])
                inputs[spec.name] = (padded.astype(np.float32) / 255 - 0.1307) / 0.3081
            elif spec.shape:
                inputs[spec.name] = labels[start : start + batch].astype(spec.dtype)
            else:
                value = 0.01 if spec.dtype.startswith("float") else step
                inputs[spec.name] = np.asarray(value, spec.dtype)
        losses.append(float(np.asarray(run(inputs)["train.loss"])))
    return np.array(losses)


def check_forward(path: Path) -> dict[str, Any]:
    """The greatest error against the processor's output, relative to the greatest output; three runs, so graphs too."""
    executor = opened(path)
    given = [images(spec.shape, SAMPLES) for spec in executor.program.inputs]
    with np.load(path.with_suffix(".npz")) as file:
        expected = [file[name] for name in file.files]
    error = 0.0
    for _ in range(3):
        for result, right in zip(executor.execute(given), expected, strict=True):
            error = max(error, float(np.abs(result - right).max() / np.abs(right).max()))
    executor.trim()
    return {"model": path.stem, "error": error, "fine": error < TOLERANCE["float32"]}


def check_epoch(folder: Path) -> dict[str, Any]:
    """The losses of an epoch here against the processor's."""
    executor = opened(folder / "epoch.dlc")
    started = time.perf_counter()
    found = epoch(executor.run, executor.program, folder)
    seconds = time.perf_counter() - started
    with np.load(folder / "epoch.npz") as file:
        expected = file[file.files[0]]
    here, there = (np.array([part.mean() for part in np.array_split(a, 50)]) for a in (found, expected))
    difference = float(np.abs(here - there).max() / there.max())
    return {
        "difference": difference,
        "fine": difference < _CURVE,
        "seconds": seconds,
        "last": float(found[-50:].mean()),
        "last on the processor": float(expected[-50:].mean()),
    }


def median(call: Callable[[], object], seconds: float = 1.0) -> float:
    """Median seconds of a call, after some that are not counted."""
    for _ in range(5):
        call()
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < stop:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def chip() -> dict[str, float]:
    """The peaks of this machine's GPU; none where it is not in the table, or where there is no GPU."""
    found = cuda_device()
    names = found.detail.replace(",", " ").replace("-", " ").split() if found.available else []
    return next((peaks for name, peaks in PEAKS.items() if name in names), {})


def kernels(rows: Sequence[Any], most: int | None = None) -> list[dict[str, Any]]:
    """The steps of a program, the slowest first: time, work, and the share of the chip's peaks that it comes to."""
    found = []
    for row in sorted(rows, key=lambda r: -r.seconds)[:most]:
        shares = {
            kind: round((row.moved if kind == "memory" else row.flops) / max(row.seconds, 1e-9) / peak, 4)
            for kind, peak in chip().items()
        }
        facts = {"layer": row.layer, "what": row.what, "seconds": row.seconds, "flops": row.flops, "bytes": row.moved}
        found.append(facts | {"of peak": shares})
    return found


def measure_forward(path: Path, batches: Sequence[int], torch: Any) -> dict[str, Any]:
    """Seconds a call by batch, inputs and outputs on the GPU where PyTorch is there to hold them; a profile of the largest."""
    executor = opened(path)
    found: dict[str, Any] = {"model": path.stem, "forward": {}}
    given: list[Any] = []
    for batch in batches:
        given = [images(spec.shape, batch) for spec in executor.program.inputs]
        if torch is not None:
            given = [torch.from_numpy(array).cuda() for array in given]
        found["forward"][batch] = median(lambda held=given: executor.execute(held))  # type: ignore[misc]
    rows = executor.profile({s.name: g for s, g in zip(executor.program.inputs, given, strict=True)}, 5)
    found["kernels"] = kernels(rows)
    executor.trim()
    return found


def measure_step(path: Path) -> dict[str, Any]:
    """Seconds of a training step, weights on the GPU, samples from the host."""
    executor = opened(path)
    generator = np.random.default_rng(0)
    inputs = {
        spec.name: generator.standard_normal(spec.shape, np.float32)
        if len(spec.shape) == 4
        else np.zeros(spec.shape, spec.dtype)
        for spec in executor.program.inputs
    }
    seconds = median(lambda: executor.run(inputs))
    rows = executor.profile(inputs, 3)
    executor.trim()
    return {
        "model": path.name.removesuffix(".step.dlc"),
        "batch": executor.program.batch,
        "step": seconds,
        "kernels": kernels(rows, 40),
    }


def torch_model(torch: Any, name: str) -> Any | None:
    """PyTorch's network like one of ours, None where there is none."""
    if name == "LeNet5":
        n = torch.nn
        return n.Sequential(
            n.Conv2d(1, 6, 5), n.Tanh(), n.AvgPool2d(2), n.Conv2d(6, 16, 5), n.Tanh(), n.AvgPool2d(2), n.Flatten(),
            n.Linear(400, 120), n.Tanh(), n.Linear(120, 84), n.Tanh(), n.Linear(84, 10),
        )  # fmt: skip
    import torchvision

    names = {
        "ResNet18": "resnet18",
        "ResNet50": "resnet50",
        "VggD": "vgg16",
        "GoogLeNet": "googlenet",
        "AlexNet": "alexnet",
    }
    if name not in names:
        return None
    more = {"aux_logits": False, "init_weights": False} if name == "GoogLeNet" else {}
    return getattr(torchvision.models, names[name])(weights=None, **more)


def measure_torch(torch: Any, name: str, batches: Sequence[int], compiled: bool) -> list[dict[str, Any]]:
    """Seconds of forward calls and of a training step of PyTorch's network, in tf32 and fp16, eager and compiled."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    rows: list[dict[str, Any]] = []
    for way in ("eager", "compiled") if compiled else ("eager",):
        for kind in ("tf32", "fp16"):
            net = torch_model(torch, name)
            if net is None:
                return rows
            last = torch.channels_last
            net = net.cuda().eval().to(memory_format=last)
            net = net.half() if kind == "fp16" else net
            call = torch.compile(net) if way == "compiled" else net
            shape = (1, 32, 32) if name == "LeNet5" else (3, 224, 224)
            row: dict[str, Any] = {"model": name, "way": way, "precision": kind, "forward": {}}
            for batch in batches:
                x = torch.randn(batch, *shape, device="cuda").to(memory_format=last)
                x = x.half() if kind == "fp16" else x

                def forward(call: Any = call, x: Any = x) -> None:
                    with torch.inference_mode():
                        call(x)
                    torch.cuda.synchronize()

                row["forward"][batch] = median(forward)
            row["step"] = _torch_step(torch, name, way, kind, shape)
            rows.append(row)
    return rows


def _torch_step(torch: Any, name: str, way: str, kind: str, shape: tuple[int, ...], batch: int = 64) -> float:
    net = torch_model(torch, name)
    assert net is not None
    net = net.cuda().train().to(memory_format=torch.channels_last)
    call = torch.compile(net) if way == "compiled" else net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    scaler = torch.amp.GradScaler("cuda", enabled=kind == "fp16")
    x = torch.randn(batch, *shape, device="cuda").to(memory_format=torch.channels_last)
    y = torch.zeros(batch, dtype=torch.int64, device="cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.float16, enabled=kind == "fp16"):
            loss = torch.nn.functional.cross_entropy(call(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        torch.cuda.synchronize()

    return median(step)


def summary(results: Mapping[str, Any]) -> list[str]:
    """How many times faster dlc is than PyTorch's eager mode, by model: a line for each, where both were measured."""
    lines = []
    for name, ours in results.items():
        theirs = results.get(f"PyTorch {name.removeprefix('dlc ')} eager")
        if "forward" not in ours or not isinstance(theirs, list):
            continue
        for row in theirs:
            ratios = [f"batch {b}: {row['forward'][b] / seconds:.2f}" for b, seconds in ours["forward"].items()]
            step = results.get(f"{name}.step", {}).get("step")
            ratios += [f"step: {row['step'] / step:.2f}"] if step else []
            lines.append(f"{name} against PyTorch in {row['precision']}: {', '.join(ratios)} times as fast")
    return lines


def attempt(results: dict[str, Any], key: str, work: Callable[[], Any]) -> None:
    """Adds what `work` gives to the results, or its error: one that fails shall not cost the others' figures."""
    started = time.perf_counter()
    try:
        found = work()
    except Exception as error:  # whatever goes wrong on a machine that nobody can look at again has to be told
        traceback.print_exc()
        found = {"fault": f"{type(error).__name__}: {error}"[:2000], "of": key}
    results[key] = found
    shown = {k: v for k, v in found.items() if k != "kernels"} if isinstance(found, dict) else found
    print(f"{key}: {shown}  ({time.perf_counter() - started:.1f} s)", flush=True)
    write(results)


def write(results: Mapping[str, Any]) -> None:
    """Writes what is known so far."""
    (HERE / "results.json").write_text(json.dumps(results, indent=1))


def main() -> int:
    """Checks, then measures; 1 where a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only, measure nothing")
    parser.add_argument("--models", default="", help="those whose names contain one of these words, with commas")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--no-torch-compile", action="store_true", help="measure PyTorch's eager mode alone")
    options = parser.parse_args()
    words = options.models.split(",")
    paths = [p for p in sorted(HERE.glob("*.dlc"), key=lambda p: p.stat().st_size) if any(w in p.name for w in words)]
    forward = [p for p in paths if p.with_suffix(".npz").exists() and p.stem != "epoch"]
    results: dict[str, Any] = {}
    for path in forward:
        attempt(results, f"check {path.stem}", lambda path=path: check_forward(path))  # type: ignore[misc]
    if (HERE / "epoch.dlc") in paths:
        attempt(results, "check epoch", lambda: check_epoch(HERE))
    failed = [key for key, found in results.items() if not found.get("fine")]
    results["device"] = {"name": cuda_device().detail, "peaks": chip()}
    if not options.check:
        torch = None if options.no_torch else _torch()
        for path in forward:
            attempt(results, f"dlc {path.stem}", lambda path=path: measure_forward(path, BATCHES, torch))  # type: ignore[misc]
        for path in paths:
            if path.name.endswith(".step.dlc"):
                attempt(results, f"dlc {path.stem}", lambda path=path: measure_step(path))  # type: ignore[misc]
        for compiled in (False, True)[: 1 + (not options.no_torch_compile)] if torch is not None else ():
            for path in forward:
                key = f"PyTorch {path.stem} {'compiled' if compiled else 'eager'}"
                attempt(results, key, lambda p=path, c=compiled: measure_torch(torch, p.stem, BATCHES, c))  # type: ignore[misc]
        results["summary"] = summary({k: v for k, v in results.items() if k.startswith(("dlc ", "PyTorch "))})
        print("\n".join(results["summary"]))
        write(results)
    print("failed: " + ", ".join(failed) if failed else "all checks are fine")
    return 1 if failed else 0


def _torch() -> Any | None:
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


if __name__ == "__main__":
    sys.exit(main())
