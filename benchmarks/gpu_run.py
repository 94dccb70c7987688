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

import gpu_torch  # noqa: E402
import numpy as np  # noqa: E402

from dlc.runtime.arrays import aligned_copy, element_type  # noqa: E402
from dlc.runtime.artifact import load_artifact  # noqa: E402
from dlc.runtime.chips import peaks_of  # noqa: E402
from dlc.runtime.device import cuda_device  # noqa: E402
from dlc.runtime.plan import Program  # noqa: E402
from dlc.runtime.session import executor_of  # noqa: E402

SAMPLES = 2
"""Samples of a comparison."""

BATCHES = (1, 32, 256)
TOLERANCE = {"float32": 1e-4, "tf32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
"""What the largest difference may be, relative to the largest output, by precision."""

WORDS = {"float32": "fp32", "tf32": "tf32", "float16": "fp16", "bfloat16": "bf16"}
"""The short words for precisions, which the files' names have: MODEL.tf32.dlc."""

GOAL_LATENCY, GOAL_THROUGHPUT = 2.0, 0.7
"""How many times as fast as PyTorch's eager mode one image shall be, and which part of PyTorch's throughput the largest batch."""

_CURVE = 0.02  # an epoch's losses, averaged over fiftieths of it, may differ by this part


def drawn(name: str, shape: Sequence[int]) -> np.ndarray:
    """A weight out of its name's own random numbers, in He's scale; vectors are small, so that sums stay in range."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    fan = int(np.prod(shape[1:])) if len(shape) > 1 else 400
    values = generator.standard_normal(tuple(shape), np.float32) * np.float32(np.sqrt(2 / max(fan, 1)))
    return np.abs(values) + 1 if name.endswith(("var", "variance")) else values


def placed(spec: Any, precision: str) -> np.ndarray:
    """A drawn weight of a program as its kernels read it, rounded where its products take rounded factors."""
    array = drawn(spec.name, spec.layout.canonical_shape if spec.layout is not None else spec.shape)
    if precision == "tf32" and array.ndim > 1 and spec.role != "state":
        bits = array.view(np.uint32)
        kept = bits + np.uint32(0xFFF) + (bits >> np.uint32(13) & np.uint32(1)) & np.uint32(0xFFFFE000)
        array = kept.view(np.float32)
    array = array.astype(element_type(spec.dtype), copy=False)
    return array if spec.layout is None else spec.layout.pack(array)


def images(shape: Sequence[int], batch: int, seed: int = 0) -> np.ndarray:
    """The same random images on every machine."""
    return np.random.default_rng(seed).standard_normal((batch, *shape[1:]), np.float32)


def opened(path: Path) -> Any:
    """What runs an artifact, with drawn weights for those that it lacks."""
    artifact = load_artifact(path)
    weights = dict(artifact.weights)
    for spec in artifact.manifest.program.weights:
        if spec.name not in weights:
            array = placed(spec, artifact.manifest.precision)
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
    """The greatest error against the processor's output, relative to the greatest output; three runs, so graphs too.

    In tf32 the processor rounded the same factors; how far that is from float32 is said beside it.
    """
    executor, precision = opened(path), precision_of(path)
    given = [images(spec.shape, SAMPLES) for spec in executor.program.inputs]
    with np.load(path.with_suffix(".npz")) as file:
        expected = [file[name] for name in file.files if name.startswith("same")]
        exact = [file[name] for name in file.files if name.startswith("exact")]
    error = distance = 0.0
    for _ in range(3):
        results = executor.execute(given)
        error = max(error, *map(difference, results, expected))
        distance = max(distance, *map(difference, results, exact))
    executor.trim()
    fine = error < TOLERANCE[precision]
    return {"model": path.stem, "error": error, "fine": fine, "from float32": distance}


def difference(result: np.ndarray, right: np.ndarray) -> float:
    """The largest difference, relative to the largest number."""
    return float(np.abs(result - right).max() / np.abs(right).max())


def precision_of(path: Path) -> str:
    """The precision of an artifact by its file's name: MODEL.tf32.dlc, MODEL.tf32.check.dlc, MODEL.bf16.step.dlc."""
    words = path.name.split(".")
    return next(name for name, word in WORDS.items() if word in words)


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
    return peaks_of(found.detail) if found.available else {}


def kernels(rows: Sequence[Any], precision: str, most: int | None = None) -> list[dict[str, Any]]:
    """The steps of a program, the slowest first: time, work, and the share of the chip's peaks that it comes to: of arithmetic in
    the precision of products, of memory, and the larger of both, which is what bounds the kernel."""
    found, peaks = [], chip()
    for row in sorted(rows, key=lambda r: -r.seconds)[:most]:
        facts = {"layer": row.layer, "what": row.what, "seconds": row.seconds, "flops": row.flops, "bytes": row.moved}
        if peaks:
            seconds = max(row.seconds, 1e-9)
            compute, memory = row.flops / seconds / peaks[precision], row.moved / seconds / peaks["memory"]
            facts |= {
                "of compute": round(compute, 4),
                "of memory": round(memory, 4),
                "share": round(max(compute, memory), 4),
            }
        found.append(facts)
    return found


def share_of_all(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The share of the chip's peaks that all kernels together reach: the time that each would take at its peak, by the whole time."""
    total = sum(row["seconds"] for row in rows)
    return sum(row["share"] * row["seconds"] for row in rows) / total if rows and "share" in rows[0] else None


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
    found["kernels"] = kernels(rows, precision_of(path))
    found["share"] = share_of_all(found["kernels"])
    executor.trim()
    return found


def measure_step(path: Path, torch: Any) -> dict[str, Any]:
    """Seconds of a training step, weights on the GPU, the samples too where PyTorch is there to hold them."""
    executor = opened(path)
    generator = np.random.default_rng(0)
    inputs: dict[str, Any] = {}
    for spec in executor.program.inputs:
        is_image = len(spec.shape) == 4
        array = generator.standard_normal(spec.shape, np.float32) if is_image else np.zeros(spec.shape, spec.dtype)
        inputs[spec.name] = torch.from_numpy(array).cuda() if torch is not None and spec.shape else array
    seconds = median(lambda: executor.run(inputs))
    rows = kernels(executor.profile(inputs, 3), precision_of(path))
    executor.trim()
    return {
        "model": path.name.removesuffix(".step.dlc"),
        "batch": executor.program.batch,
        "step": seconds,
        "share": share_of_all(rows),
        "kernels": rows[:40],
    }


def summary(results: Mapping[str, Any]) -> list[str]:
    """How many times as fast as PyTorch dlc is, by model, precision and PyTorch's way, and whether the goals are met.

    Steps in bf16 are compared with PyTorch's in bf16 and in fp16, which tensor cores multiply equally fast.
    """
    lines = []
    for key, theirs in results.items():
        words = key.split()
        if words[0] != "PyTorch" or not isinstance(theirs, list):
            continue
        model, way = words[1:]
        for row in theirs:
            kind = row["precision"]
            ours = results.get(f"dlc {model}.{kind}", {}).get("forward", {})
            ratios = {b: row["forward"][b] / seconds for b, seconds in ours.items() if b in row["forward"]}
            said = [f"batch {b}: {ratio:.2f}" for b, ratio in ratios.items()]
            own = "bf16" if kind == "fp16" else kind
            step = results.get(f"dlc {model}.{own}.step", {}).get("step")
            said += [f"step in {own}: {row['step'] / step:.2f}"] if step else []
            if said:
                lines.append(f"{model} against PyTorch {way} in {kind}: {', '.join(said)} times as fast")
            lines += _goals(model, way, kind, ratios)
    return lines


def _goals(model: str, way: str, kind: str, ratios: Mapping[int, float]) -> list[str]:
    lines = []
    if way == "eager" and 1 in ratios:
        met = "met" if ratios[1] >= GOAL_LATENCY else "missed"
        lines.append(f"  goal {met}: one image in {kind} {GOAL_LATENCY} times as fast as eager ({ratios[1]:.2f})")
    last = max(ratios, default=1)
    if kind == "fp16" and last > 1:
        met = "met" if ratios[last] >= GOAL_THROUGHPUT else "missed"
        lines.append(f"  goal {met}: {last} images in fp16 {GOAL_THROUGHPUT} of PyTorch {way} ({ratios[last]:.2f})")
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
    compared = [p for p in paths if p.with_suffix(".npz").exists() and p.stem != "epoch"]
    results: dict[str, Any] = {}
    for path in compared:
        attempt(results, f"check {path.stem}", lambda path=path: check_forward(path))  # type: ignore[misc]
    if (HERE / "epoch.dlc") in paths:
        attempt(results, "check epoch", lambda: check_epoch(HERE))
    failed = [key for key, found in results.items() if not found.get("fine")]
    results["device"] = {"name": cuda_device().detail, "peaks": chip()}
    if not options.check:
        torch = None if options.no_torch else gpu_torch.torch_or_none()
        measured = [p for p in compared if ".check." not in p.name]
        for path in measured:
            attempt(results, f"dlc {path.stem}", lambda path=path: measure_forward(path, BATCHES, torch))  # type: ignore[misc]
        for path in (p for p in paths if p.name.endswith(".step.dlc")):
            attempt(results, f"dlc {path.stem}", lambda path=path: measure_step(path, torch))  # type: ignore[misc]
        models = dict.fromkeys(p.name.partition(".")[0] for p in measured)
        ways = ("eager",) if options.no_torch_compile else ("eager", "compiled")
        for way in ways if torch is not None else ():
            for name in models:
                work = lambda n=name, w=way: gpu_torch.measure(torch, n, BATCHES, w, median)  # noqa: E731
                attempt(results, f"PyTorch {name} {way}", work)
        results["summary"] = summary(results)
        print("\n".join(results["summary"]))
        write(results)
    print("failed: " + ", ".join(failed) if failed else "all checks are fine")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
