"""Threads: counts, how they are divided, what TVM's pool really does, and children of fork."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlc.runtime import threads
from dlc.runtime.artifact import Artifact, save_artifact
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.library import load_runtime

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def tasks_of_a_launch() -> int:
    """How many tasks TVM makes of a parallel loop on this thread now."""
    load_runtime()
    seen: list[int] = []

    @CALLBACK
    def body(task: int, environment: int, closure: int) -> int:
        seen.append(task)
        return 0

    ctypes.CDLL("libtvm_runtime.so").TVMBackendParallelLaunch(body, None, 0)
    return len(seen)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if threads.available() < 2:
        pytest.skip("needs two cores")
    yield


def test_none_means_all_cores_and_more_than_those_are_all_of_them() -> None:
    assert threads.resolve(None) == threads.available() == threads.resolve(10_000)
    assert threads.resolve(1) == 1


@pytest.mark.parametrize("count", [0, -3, 2.0, "2", False])
def test_counts_that_are_none_are_refused(count: object) -> None:
    with pytest.raises(RuntimeFault, match="R0510"):
        threads.resolve(count)  # type: ignore[arg-type]


def test_each_thread_of_the_program_has_its_own_count(two_cores: None) -> None:
    counts: dict[str, list[int]] = {}

    def work(name: str, wanted: list[int]) -> None:
        counts[name] = []
        for count in wanted:
            threads.enter(threads.resolve(count))
            counts[name].append(tasks_of_a_launch())
            threads.leave()

    for name, wanted in (("a", [2, 1, 2, 1]), ("b", [1, 2, 1])):
        worker = threading.Thread(target=work, args=(name, wanted))
        worker.start()
        worker.join()

    assert counts == {"a": [2, 1, 2, 1], "b": [1, 2, 1]}


def test_callers_at_the_same_time_divide_the_cores(two_cores: None) -> None:
    counts: list[int] = []
    both, done = threading.Barrier(2, timeout=60), threading.Barrier(2, timeout=60)

    def first() -> None:
        threads.enter(2)
        both.wait()
        done.wait()
        threads.leave()

    def second() -> None:
        both.wait()
        threads.enter(2)
        counts.append(tasks_of_a_launch())
        done.wait()
        threads.leave()

    workers = [threading.Thread(target=first), threading.Thread(target=second)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert counts == [1]


def test_no_thread_is_pinned_to_a_core() -> None:
    before = os.sched_getaffinity(0)

    threads.enter(threads.available())
    tasks_of_a_launch()
    threads.leave()

    assert os.sched_getaffinity(0) == before


def test_a_forked_child_computes_on_its_one_thread(artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "pair.dlc"
    save_artifact(path, artifact)
    script = textwrap.dedent("""
        import os, sys
        import numpy as np
        import dlc
        net = dlc.load(sys.argv[1])
        values = np.ones((9, 3, 8, 16), np.float32), np.ones((9, 384), np.float32)
        want = net(*values)["sum"]
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(net(*values)["sum"], want) and np.array_equal(dlc.load(sys.argv[1])(*values)["sum"], want) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert np.array_equal(net(*values)["sum"], want)
    """)
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=60)
