"""Networks of specs that were checked before, found by the bytes of all files that they came from: nothing is parsed again.

Only specs without mistakes and warnings are kept. An entry names the files with their digests, and those places where a file
would be found first if there were one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from dlc.compiler.codegen.cache import Cache
    from dlc.compiler.network import Network

_KIND = "networks"
_SOURCES = ("compiler", "grammar", "runtime")


class _Entry(msgspec.Struct, frozen=True):
    files: dict[str, str]
    absent: tuple[str, ...]
    network: msgspec.Raw
    training_only: tuple[str, ...]


@dataclass(frozen=True)
class Recalled:
    """A network's inference form, and the names of the weights that only training has."""

    network: Network
    training_only: frozenset[str]


def recall(spec: str | Path, model: str | None, settings: Sequence[str], kept: Cache) -> Recalled | None:
    """The network as it was elaborated before; None where files or dlc changed since, or it was never."""
    content = kept.get(_KIND, _key(spec, model, settings))
    if content is None:
        return None
    try:
        entry = msgspec.json.decode(content, type=_Entry)
        if any(_digest(Path(path)) != digest for path, digest in entry.files.items()):
            return None
    except (msgspec.DecodeError, OSError):
        return None
    if any(os.path.exists(path) for path in entry.absent):
        return None
    from dlc.compiler.description import described

    return Recalled(described(entry.network), frozenset(entry.training_only))


def keep(spec: str | Path, model: str | None, settings: Sequence[str], network: Network, kept: Cache) -> None:
    """Keeps a network that was elaborated from a spec, for `recall`."""
    from dlc.compiler.description import describe
    from dlc.compiler.frontend.imports import load

    files = load(spec).files
    sought = [(file.path.parent / s.path.value, found.path) for file in files for s, found in file.imports]
    absent = tuple(sorted({str(place) for place, path in sought if os.path.realpath(place) != str(path)}))
    needed = network.parameter_specs(training=False)
    entry = _Entry(
        {str(file.path): _digest(file.path) for file in files},
        absent,
        describe(network),
        tuple(name for name in network.parameter_specs() if name not in needed),
    )
    kept.put(_KIND, _key(spec, model, settings), msgspec.json.encode(entry))


def _key(spec: str | Path, model: str | None, settings: Sequence[str]) -> str:
    parts = [os.path.realpath(spec), model, list(settings), _dlc()]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _dlc() -> str:
    """What tells versions of dlc apart: its files with their sizes and times."""
    root = Path(__file__).resolve().parent
    found = []
    for part in _SOURCES:
        for folder, _, names in os.walk(root / part, followlinks=True):
            for name in names:
                if name.endswith((".py", ".lark", ".json")):
                    status = os.stat(os.path.join(folder, name))
                    found.append((folder, name, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(sorted(found)).encode()).hexdigest()
