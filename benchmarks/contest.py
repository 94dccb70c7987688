"""One row, in a process of its own: the contenders are made, held against each other, and timed in turns."""

from __future__ import annotations

import contextlib
import gc
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import forward
import numpy as np
import training
from clock import Watch, alternate
from rows import ERROR, PEER_ERRORS, Row, family

TARGETS = {"forward": "cpu", "avx2": "x86-64-v3"}
STEPS = 3
"""Training steps in which losses are compared; they may differ by LOSSES, relative."""
LOSSES = 1e-3


class BudgetSpentError(BaseException):
    """`torch.compile` took longer than it may. No Exception, so that nobody inside it takes it for a reason to go on."""


@contextlib.contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Ends the block with BudgetSpentError after so many seconds."""

    def spent(*_: object) -> None:
        raise BudgetSpentError

    before = signal.signal(signal.SIGALRM, spent)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def time_row(
    row: Row, folder: Path, *, threads: int, rounds: int, compile_budget: float, only: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The times of a row's contenders, how far their results are from each other, and what the machine did meanwhile.

    `only` names the systems to run beside dlc; none: all. A peer whose forward results are too far from float64 is left out.
    Raises AssertionError where dlc's are, or where losses of training steps disagree.
    """
    make = _training if row.kind == "train" else _forward
    contenders, facts = make(row, folder, threads, compile_budget, only)
    gc.collect()
    gc.disable()
    with Watch() as watch:
        times = alternate(contenders, rounds=rounds, family=family)
    return {"unit": "ms", "times": times, **facts, **watch.figures()}


def _wanted(name: str, only: tuple[str, ...]) -> bool:
    return not only or family(name) in only


def _forward(
    row: Row, folder: Path, threads: int, compile_budget: float, only: tuple[str, ...]
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    net = row.network
    peers = forward.PEERS if row.kind == "forward" else ("OpenVINO",)
    peers = tuple(p for p in peers if _wanted(p, only) and (family(p) != "ncnn" or row.batch == 1))
    forward.prepare(net, row.batch, folder, TARGETS[row.kind], peers)
    contenders = {name: forward.contender(name, net, row.batch, folder, threads) for name in ("dlc", *peers)}
    notes: dict[str, str] = {}
    if row.kind == "avx2":
        kernels = forward.openvino_convolutions(folder, threads)
        assert kernels and not any("avx512" in k for k in kernels), f"OpenVINO is not limited to AVX2: {kernels}"
        notes["OpenVINO"] = f"limited to AVX2: {', '.join(sorted(kernels))}"
    if row.kind == "forward" and _wanted("PyTorch", only):
        last = _faster(contenders, "PyTorch channels last", "PyTorch")
        name = "PyTorch compile" + (" channels last" if last else "")
        call = forward.compiled(net, row.batch, folder, threads, last=last)
        _compile(name, call, compile_budget, contenders, notes)
    expected = forward.exact(net, row.batch, folder)
    errors = {}
    for name, call in list(contenders.items()):
        result = np.array(call())
        errors[name] = float(np.abs(result - expected).max() / np.abs(expected).max())
        if errors[name] <= PEER_ERRORS.get(name, ERROR):
            continue
        assert name != "dlc", f"{row.name}: dlc is off by {errors[name]:.1e} relative to float64"
        notes[name] = f"left out: off by {errors[name]:.1e} relative to float64"
        del contenders[name]
    return contenders, {"errors": errors, "notes": notes}


def _training(
    row: Row, folder: Path, threads: int, compile_budget: float, only: tuple[str, ...]
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    net = row.network
    training.prepare(net, folder)
    curves = _curves(row, folder, threads)
    contenders: dict[str, Callable[[], Any]] = {"dlc": training.ours(net, row.batch, folder, threads)}
    notes: dict[str, str] = {}
    if _wanted("PyTorch", only):
        for last, name in ((False, "PyTorch"), (True, "PyTorch channels last")):
            contenders[name] = training.pytorch(net, row.batch, folder, threads, last=last)
        last = _faster(contenders, "PyTorch channels last", "PyTorch")
        name = "PyTorch compile" + (" channels last" if last else "")
        call = training.pytorch(net, row.batch, folder, threads, last=last, compiled=True)
        _compile(name, call, compile_budget, contenders, notes)
    return contenders, {"losses": curves, "notes": notes}


def _curves(row: Row, folder: Path, threads: int) -> dict[str, list[float]]:
    """The losses of some steps without dropout, ours and PyTorch's, which must agree."""
    net = row.network
    ours = training.ours(net, row.batch, folder, threads, dropless=True)
    theirs = training.pytorch(net, row.batch, folder, threads, last=False, dropless=True)
    curves = {"dlc": [ours() for _ in range(STEPS)], "PyTorch": [theirs() for _ in range(STEPS)]}
    assert all(map(math.isfinite, curves["PyTorch"])), curves
    assert np.allclose(curves["dlc"], curves["PyTorch"], rtol=LOSSES), f"{row.name} trains differently: {curves}"
    return curves


def _faster(contenders: Mapping[str, Callable[[], Any]], one: str, other: str) -> bool:
    """Whether `one` is the faster of two, by a few calls."""
    least = {}
    for name in (one, other):
        contenders[name]()
        least[name] = float("inf")
        for _ in range(2):
            started = time.perf_counter()
            contenders[name]()
            least[name] = min(least[name], time.perf_counter() - started)
    return least[one] < least[other]


def _compile(
    name: str,
    call: Callable[[], Any],
    seconds: float,
    contenders: dict[str, Callable[[], Any]],
    notes: dict[str, str],
) -> None:
    """Adds a contender that compiles in its first call, if it does so in time; the notes say what happened."""
    if seconds <= 0:
        notes[name] = "not measured"
        return
    started = time.perf_counter()
    try:
        with budget(seconds):
            call()
            call()
    except BudgetSpentError:
        notes[name] = f"not measured: it was not compiled within {seconds:.0f} s"
        return
    contenders[name] = call
    notes[name] = f"compiled in {time.perf_counter() - started:.0f} s"
