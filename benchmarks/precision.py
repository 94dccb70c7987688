"""What bfloat16 gives over float32: the same network, weights and images in both, in turns.

    python benchmarks/precision.py [--threads N] [--rounds N] [--train] [WORD …]

Words select rows by name. A figure is the median of the bursts' medians, in milliseconds; the ratio is float32's over bfloat16's.
Processor time tells more on a machine that others use, with one thread (others spin while they wait): the median over turns of
one call each. The difference is the largest one of the results, relative to float32's largest; of training steps, that of the losses.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from clock import Watch, alternate
from networks import NETS, Net

PRECISIONS = ("float32", "bfloat16")

OWN = NETS | {"alexnet_2012": Net("AlexNet of 2012", "alexnet", "AlexNetOf2012", (3, 227, 227), 1000)}

FORWARD = tuple((name, batch) for name in ("resnet50", "alexnet", "alexnet_2012") for batch in (1, 8))
STEPS = (("resnet50", 4), ("resnet18", 8), ("alexnet", 16), ("resnet20", 128))


def forward(net: Net, batch: int, threads: int) -> dict[str, Callable[[], np.ndarray]]:
    """A forward call in each precision."""
    import dlc
    from dlc.api import fresh_weights, one_network

    weights, images = fresh_weights(one_network(net.path, model=net.model)), net.images(batch)
    sessions = {
        p: dlc.compile(net.path, model=net.model, weights=weights, batch=batch, threads=threads, precision=p)
        for p in PRECISIONS
    }
    return {p: lambda session=session: np.asarray(session(images)) for p, session in sessions.items()}


def steps(net: Net, batch: int, threads: int) -> dict[str, Callable[[], np.ndarray]]:
    """A training step without dropout in each precision; it gives the loss."""
    from training import ours, prepare

    with tempfile.TemporaryDirectory() as folder:
        prepare(net, Path(folder))
        made = {p: ours(net, batch, Path(folder), threads, dropless=True, precision=p) for p in PRECISIONS}
    return {p: lambda step=step: np.asarray(step()) for p, step in made.items()}


def processor_ratio(made: dict[str, Callable[[], np.ndarray]], turns: int) -> float:
    """float32's processor time over bfloat16's, call by call in turns."""
    ratios = []
    for _ in range(turns):
        spent = []
        for precision in PRECISIONS:
            started = time.process_time()
            made[precision]()
            spent.append(time.process_time() - started)
        ratios.append(spent[0] / spent[1])
    return statistics.median(ratios)


def row(name: str, made: dict[str, Callable[[], np.ndarray]], rounds: int) -> None:
    """Prints one row of the table."""
    exact, near = (made[p]() for p in PRECISIONS)
    difference = float(np.abs(near - exact).max() / np.abs(exact).max())
    with Watch() as watch:
        times: dict[str, Any] = alternate(made, rounds=rounds)
    exact_time, near_time = (times[p]["median"] for p in PRECISIONS)
    ratios = f"{exact_time / near_time:7.2f}x {processor_ratio(made, 2 * rounds):8.2f}x"
    busy = ", busy machine" if watch.figures()["busy"] else ""
    print(f"{name:<36} {exact_time:9.2f} {near_time:9.2f} {ratios} {difference:10.1e}{busy}", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--train", action="store_true", help="training steps in place of forward calls")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()

    print(f"{'':<36} {'float32':>9} {'bfloat16':>9} {'ratio':>8} {'processor':>9} {'difference':>10}")
    for key, batch in STEPS if options.train else FORWARD:
        name = f"{key}, batch {batch}{', training step' if options.train else ''}"
        if options.words and not any(word in name for word in options.words):
            continue
        make = steps if options.train else forward
        row(name, make(OWN[key], batch, options.threads), options.rounds)


if __name__ == "__main__":
    main()
