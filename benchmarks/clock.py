"""The clock: contenders take turns in short bursts, so that a machine whose speed drifts treats all alike."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUIET = 0.05
"""The share of the machine that others may use before figures are marked as taken on a busy machine."""

LEAVES = 1.3
"""A variant of a system that is so many times slower than the system's best after two rounds need not go on."""


@dataclass
class Times:
    """A contender's milliseconds per call, by burst."""

    bursts: list[list[float]] = field(default_factory=list)

    @property
    def medians(self) -> list[float]:
        """The median of each burst."""
        return [statistics.median(b) for b in self.bursts]

    @property
    def median(self) -> float:
        """The median of the bursts' medians."""
        return statistics.median(self.medians)

    def figures(self) -> dict[str, Any]:
        """As it is kept: the median, the least and the largest burst's median, the number of bursts and calls."""
        medians = self.medians
        return {
            "median": self.median,
            "low": min(medians),
            "high": max(medians),
            "bursts": len(medians),
            "calls": sum(map(len, self.bursts)),
        }


def alternate(
    contenders: Mapping[str, Callable[[], Any]], *, rounds: int = 8, family: Callable[[str], str] = lambda name: name
) -> dict[str, dict[str, Any]]:
    """The times of contenders that take turns. A burst lasts about eight calls of the fastest, from 0.25 s to 1.2 s, at least
    two calls each, behind a quarter of it that is not counted.

    `family` tells variants of one system: those far behind their best leave after two rounds, with the figures they have.
    """
    once = {}
    for name, call in contenders.items():
        call()
        started = time.perf_counter()
        call()
        once[name] = time.perf_counter() - started
    seconds = min(max(8 * min(once.values()), 0.25), 1.2)
    times = {name: Times() for name in contenders}
    running = list(contenders)
    for number in range(rounds):
        for name in running:
            times[name].bursts.append(_burst(contenders[name], seconds))
        if number == 1:
            best: dict[str, float] = {}
            for name in running:
                best[family(name)] = min(best.get(family(name), float("inf")), times[name].median)
            running = [n for n in running if times[n].median <= LEAVES * best[family(n)]]
    return {name: t.figures() for name, t in times.items()}


def _burst(call: Callable[[], Any], seconds: float) -> list[float]:
    settled = time.perf_counter() + seconds / 4
    while True:
        call()
        if time.perf_counter() >= settled:
            break
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < stop:
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1e3)
    return times


class Watch:
    """What else the machine does: in a `with` block, the share of its time that other processes used or that was stolen."""

    def __enter__(self) -> Watch:
        self.load = os.getloadavg()[0]
        self._started, self._own = _machine_seconds(), _own_seconds()
        self._clock = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        elapsed = (time.perf_counter() - self._clock) * (os.cpu_count() or 1)
        busy = _machine_seconds() - self._started - (_own_seconds() - self._own)
        self.others = max(0.0, busy / elapsed)

    def figures(self) -> dict[str, Any]:
        """The load average before, and the others' share."""
        return {"load_before": self.load, "others": self.others, "busy": self.others > QUIET}


def _machine_seconds() -> float:
    """Seconds of all cores that were not idle since the machine started, waiting for disks aside."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _idle, _wait, *rest = map(int, stat.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + sum(rest[:3])) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system
