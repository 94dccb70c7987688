"""`dlc bench`: latency and throughput of a model or a training step, and what each kernel makes of the machine."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dlc.api import Settings, compile_network, one_network, recipe_of
from dlc.compiler.codegen.cache import BuildOptions, user_cache
from dlc.compiler.codegen.peaks import Peaks, machine_peaks
from dlc.loading import load
from dlc.runtime.chips import peaks_of
from dlc.runtime.device import cuda_device
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.executor import StepTime
from dlc.runtime.plan import BATCH, TensorSpec
from dlc.runtime.session import Session


@dataclass(frozen=True)
class Bench:
    """Milliseconds per call of `batch` samples; with `layers`, a row for each kernel (see `kernel_rows`) and the machine's
    peaks, None for a GPU whose peaks are not known."""

    batch: int
    median_ms: float
    best_ms: float
    images_per_second: float
    runs: int
    layers: list[dict[str, Any]] = field(default_factory=list)
    peaks: Peaks | None = None


def bench(
    model_file: str | Path,
    *,
    model: str | None = None,
    batch: int = 1,
    seconds: float = 2.0,
    layers: bool = False,
    threads: int | None = None,
    target: str | None = None,
    precision: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> Bench:
    """Calls a model on random numbers for a while. A spec is compiled first, for a target (this processor) and in a precision
    (float32), with fresh weights."""
    path = Path(model_file)
    if path.suffix == ".dlspec":
        net = compile_network(
            one_network(path, model=model),
            target=target or "cpu",
            precision=precision or "float32",
            threads=threads,
            progress=progress,
        )
    elif model is not None:
        raise RuntimeFault("R0217", f"{path} is no spec: it holds one model", help="leave --model out")
    elif target is not None or precision is not None:
        raise RuntimeFault(
            "R0217", f"{path} is compiled already, for a target and in a precision", help="leave these options out"
        )
    else:
        net = load(path, threads)
    arrays = _arrays(net, batch)
    times = _times(lambda: net(*arrays), seconds)
    profile = net.profile(*arrays, repeats=_repeats(times)) if layers else []
    peaks = _peaks_for(net, threads) if layers else None
    return _bench(batch, times, profile, peaks)


def bench_step(
    spec: str | Path,
    *,
    recipe: str | None = None,
    settings: Settings = (),
    seconds: float = 2.0,
    layers: bool = False,
    threads: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Bench:
    """Makes training steps of a recipe on random samples for a while: forward, backward, update. No data is read."""
    from dlc.training import TrainingSession

    plan = recipe_of(spec, recipe, settings)
    session = TrainingSession(plan, threads=threads, options=BuildOptions(user_cache(), progress))
    generator = np.random.default_rng(0)
    feeds = {s.name: random_input(s, plan.batch, generator) for s in session.step.program.inputs}
    times = _times(lambda: session.step.run(feeds), seconds)
    profile, peaks = (session.profile(_repeats(times)), machine_peaks(threads, user_cache())) if layers else ([], None)
    return _bench(plan.batch, times, profile, peaks)


def kernel_rows(profile: Sequence[StepTime], peaks: Peaks) -> list[dict[str, Any]]:
    """For each kernel: `layer`, `what`, `ms`, `gflops`, `gbps`, what bounds it ("compute" or "memory"), and `share`, the part of
    the machine's peak in that which it reaches.

    A kernel is bound by what would take it longer at the machine's peak. Operations are those of the direct algorithm, bytes
    those of the tensors that it reads and writes, once each: Winograd's convolutions, and kernels whose tensors lie in a
    cache, may have shares above 1.
    """
    rows = []
    for step in profile:
        seconds = max(step.seconds, 1e-9)
        compute, memory = step.flops / peaks.flops, step.moved / peaks.bytes
        rows.append(
            {
                "layer": step.layer,
                "what": step.what,
                "ms": step.seconds * 1e3,
                "gflops": step.flops / seconds / 1e9,
                "gbps": step.moved / seconds / 1e9,
                "bound": "compute" if compute >= memory else "memory",
                "share": max(compute, memory) / seconds,
            }
        )
    return rows


def _peaks_for(net: Session, threads: int | None) -> Peaks | None:
    """The peaks of the device that a model runs on, in its precision; None for a GPU that is not known."""
    if net.manifest.program.device == "cpu":
        return machine_peaks(threads, user_cache())
    found = peaks_of(cuda_device().detail)
    return Peaks(0, found[net.manifest.precision], found["memory"]) if found else None


def _bench(batch: int, times: list[float], profile: Sequence[StepTime], peaks: Peaks | None) -> Bench:
    median = statistics.median(times)
    rows = kernel_rows(profile, peaks or Peaks(0, math.inf, math.inf))
    return Bench(batch, median * 1e3, min(times) * 1e3, batch / median, len(times), rows, peaks)


def _times(call: Callable[[], Any], seconds: float) -> list[float]:
    call()
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while not times or time.perf_counter() < stop:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return times


def _repeats(times: list[float]) -> int:
    return max(5, min(len(times), 200))


def _arrays(net: Session, batch: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [random_input(spec, batch, generator) for spec in net.inputs]


def random_input(spec: TensorSpec, batch: int, generator: np.random.Generator) -> np.ndarray:
    """Random numbers for an input; zeros for labels and for what else is whole or steers training (a rate of 0)."""
    shape = tuple(batch if extent == BATCH else extent for extent in spec.shape)
    if spec.name.startswith("train.") or np.dtype(spec.dtype).kind != "f":
        return np.zeros(shape, spec.dtype)
    return generator.standard_normal(shape).astype(spec.dtype)
