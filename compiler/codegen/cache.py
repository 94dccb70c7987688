"""The cache: what the compiler made once, kept in the user's cache folder and shared by all models.

An entry is a file named by the digest of all that it depends on: workload, target, and the compiler itself, by the content of
its sources. So nothing is ever out of date; what is no longer asked for goes when the cache grows beyond its limit, the longest
unused first. Entries are written beside their place and moved there, so that any number of processes may read and write at
once; each holds its own digest, and one that is damaged is made again. The folder belongs to the user alone, since what is in
it is run.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from dlc.compiler.choices import MODEL, Choices

_MAGIC = b"dlc\x01"
_STALE = 3600.0
"""Seconds after which a file that was never moved to its place is one of a process that is gone."""

SOURCES = (
    "compiler/choices.py",
    "compiler/codegen",
    "compiler/ir",
    "compiler/ops",
    "compiler/passes",
    "compiler/machine.py",
    "compiler/panel.py",
)
"""The parts of this package on which the machine code of a kernel depends."""

ALL_SOURCES = ("compiler", "runtime")
"""The parts of this package on which the program of a network depends."""


class Usage(NamedTuple):
    """What a cache holds: entries and bytes."""

    entries: int
    size: int


@dataclass(frozen=True)
class Cache:
    """Entries below a folder, at most `limit` bytes in all (a little more for as long as a process is writing)."""

    folder: Path
    limit: int = 512 * 2**20

    def get(self, kind: str, key: str) -> bytes | None:
        """What was put there, None where there is nothing or it is damaged."""
        path = self.folder / kind / key
        try:
            data = path.read_bytes()
        except OSError:
            return None
        content = data[len(_MAGIC) + 32 :]
        if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) :][:32] != hashlib.sha256(content).digest():
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # used now
        return content

    def put(self, kind: str, key: str, content: bytes) -> None:
        """Keeps an entry. Where that fails (a full disk, a folder that may not be written to) it is just not kept."""
        path = self.folder / kind / key
        temporary = path.with_name(f".{os.urandom(8).hex()}.tmp")
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                temporary.write_bytes(_MAGIC + hashlib.sha256(content).digest() + content)
                os.replace(temporary, path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise

    def trim(self) -> None:
        """Removes the entries that were not used for longest, if all together are beyond the limit, down to 3/4 of it."""
        found = []
        for path, status in self._files():
            if path.suffix != ".tmp":
                found.append((status.st_mtime, status.st_size, path))
            elif time.time() - status.st_mtime > _STALE:
                _remove(path)
        total = sum(size for _, size, _ in found)
        if total <= self.limit:
            return
        for _, size, path in sorted(found):
            _remove(path)
            total -= size
            if total <= self.limit * 3 // 4:
                return

    def usage(self) -> Usage:
        """How much is kept now."""
        sizes = [status.st_size for path, status in self._files() if path.suffix != ".tmp"]
        return Usage(len(sizes), sum(sizes))

    def clear(self) -> Usage:
        """Removes everything. Returns what was there."""
        before = self.usage()
        for path, _ in self._files():
            _remove(path)
        return before

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in self.folder.glob("*/*"):
            with suppress(OSError):
                found.append((path, path.stat()))
        return found


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def cache_folder() -> Path | None:
    """Where the user's cache is: dlc/compiled in $XDG_CACHE_HOME, else in ~/.cache; None where the user has no home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):  # others are to be ignored, says the specification
        return Path(given, "dlc", "compiled")
    try:
        return Path.home() / ".cache" / "dlc" / "compiled"
    except RuntimeError:
        return None


def user_cache() -> Cache | None:
    """The user's cache. None where it cannot be had, or where others may write to its folder: its code would be run."""
    folder = cache_folder()
    if folder is None:
        return None
    return Cache(folder) if is_private(folder) else None


def is_private(folder: Path) -> bool:
    """Whether a folder, which is made where it is missing, is the user's and nobody else may write to it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return False
    mine = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    return mine and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def compiler_version() -> str:
    """What machine code depends on beside workload and target: a digest of this compiler's sources and TVM's version."""
    return version_of(SOURCES)


@cache
def version_of(parts: tuple[str, ...]) -> str:
    """A digest of the sources in some folders of this package, and of TVM's version."""
    from importlib.metadata import version  # 10 ms

    root = Path(__file__).parent.parent.parent
    places = (root / part for part in parts)
    kinds = ("*.py", "*.cuh")
    files = sorted(path for p in places for path in ([p] if p.is_file() else (f for k in kinds for f in p.rglob(k))))
    found = hashlib.sha256(f"{version('apache-tvm')} {version('apache-tvm-ffi')}".encode())
    for path in files:
        found.update(f"{path.relative_to(root)}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


@dataclass(frozen=True)
class BuildOptions:
    """How code is made, without a say in what it computes: `cache` keeps it (None: nowhere); `progress` is told what part of the
    work is done, 0 to 1; `choices` are those that were measured on this machine, the cost models make all others."""

    cache: Cache | None = None
    progress: Callable[[float], None] | None = None
    choices: Choices = MODEL


PLAIN = BuildOptions()
"""No cache, and nobody who watches."""
