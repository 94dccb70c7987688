"""Threads: how many run a kernel. TVM's thread pool does the work; this module tells it how many to use.

What holds for the pool (found by experiment, TVM 0.27):

- Every calling thread has a pool of its own, made when it first runs a parallel kernel and then never larger. So pools are
  made as large as the largest count asked for so far in the process, at most one thread per core this process may use.
- A smaller count can be set for a calling thread at any time, and raised again up to its pool's size (0.2 us).
- Pinning to cores is switched off: it moves the caller, and it ignores the cores the process was given.
- When several threads of the program run models at once, the cores are divided between them.
- A forked child has no pool and cannot make one; it computes on the calling thread alone.

A kernel's result has the same bits on any number of threads: work is split between them, sums never are.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from dlc.runtime.errors import RuntimeFault

_COUNT_VARIABLE = "TVM_NUM_THREADS"  # read by TVM at each launch; unset, a launch costs 6 us more
_PIN_VARIABLE = "TVM_BIND_THREADS"
_SPIN_VARIABLE = "TVM_THREAD_POOL_SPIN_COUNT"
_SPINS = "20000"  # how often idle threads look for work before they sleep, some 7 ms; TVM's 300,000 also delay the exit by 0.1 s

_lock = threading.Lock()
_largest = 1
_forked = False
_active: dict[int, None] = {}  # the threads now inside `running`, by identifier
_configure: Callable[[int, int], object] | None = None


class _Pool(threading.local):
    """What this thread's pool was last told to use; 0 where it has none yet."""

    count = 0


_pool = _Pool()


def available() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve(count: int | None) -> int:
    """The number of threads meant: `None` is all available cores, more than those are all of them.

    Raises RuntimeFault for a count below 1 or that is no whole number.
    """
    cores = available()
    if count is None:
        count = cores
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise RuntimeFault("R0510", f"the number of threads must be a whole number from 1, got {count!r}")
    count = min(count, cores)
    _allow(count)
    return count


def prepare() -> None:
    """Sets what TVM reads before the first kernel: no pinning, how long to wait awake, and the pool's size."""
    os.environ[_PIN_VARIABLE] = "0"
    os.environ.setdefault(_SPIN_VARIABLE, _SPINS)
    _allow(1)


def connect(configure: Callable[[int, int], object]) -> None:
    """Takes TVM's function (mode, count) that sets the calling thread's count, once its library is loaded."""
    global _configure
    _configure = configure


def _allow(count: int) -> None:
    global _largest
    with _lock:
        _largest = max(_largest, count)
        os.environ[_COUNT_VARIABLE] = "1" if _forked else str(_largest)


def enter(count: int) -> None:
    """Called before kernels run on this thread: they will use `count` threads, fewer while other callers run too.

    A caller that wants one thread takes nothing from the others: what prepares batches should not halve the step.
    """
    if count > 1:
        active = _active
        active[threading.get_ident()] = None
        if len(active) > 1:
            count = max(1, count // len(active))
    if _pool.count != count:
        _resize(count)


def leave() -> None:
    """Called after the kernels have run."""
    _active.pop(threading.get_ident(), None)


def _resize(count: int) -> None:
    if _configure is not None and _largest > 1 and not _forked:  # else TVM runs kernels on the caller, without a pool
        _configure(1, count)
        _pool.count = count


def _after_fork() -> None:
    """In a forked child the pool's threads do not exist: only the calling thread may compute."""
    global _forked, _lock
    _forked = True
    _lock = threading.Lock()
    _active.clear()
    if _COUNT_VARIABLE in os.environ:
        os.environ[_COUNT_VARIABLE] = "1"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
