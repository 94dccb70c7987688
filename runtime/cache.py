"""The user's cache folder: what can be made again, and is found by what it was made of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def cache_folder(kind: str) -> Path:
    """The folder for one kind of thing; it need not exist. $XDG_CACHE_HOME/dlc/KIND, by default ~/.cache/dlc/KIND."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dlc" / kind


def cache_key(parts: Iterable[bytes]) -> str:
    """The name of what is made of these parts by this version of dlc and of the compiler: 32 hexadecimal digits."""
    hashed = hashlib.sha256(made_by())
    for part in parts:
        hashed.update(len(part).to_bytes(8, "little") + part)
    return hashed.hexdigest()[:32]


@cache
def made_by() -> bytes:
    """What tells the versions of dlc and TVM apart; of a checkout, in which files change, also their latest change."""
    folders = [PACKAGE / name for name in ("compiler", "runtime")]
    changed = max((path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*.py")), default=0)
    return f"{version('dlc')} {version('apache-tvm')} {changed}".encode()
