"""The record of what measured better than the cost models' choices: JSON lines in the user's cache folder.

A line is one choice for one workload, on one machine, for one version of the compiler; a later line goes before an earlier one.
Each holds a digest of itself, so that lines which were damaged or written by hand are left out, and counted. The folder belongs
to the user alone, since what is in it decides what is compiled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dlc.compiler.choices import Choice, Choices, ConvolutionCut, Form, LinearCut, OneCore
from dlc.compiler.codegen.cache import cache_folder, compiler_version, is_private
from dlc.compiler.codegen.target import CpuTarget, CudaTarget, this_processor
from dlc.compiler.codegen.workload import digest
from dlc.compiler.errors import DlcError
from dlc.compiler.passes.winograd_tasks import Tasks

_KINDS: dict[str, type[Choice]] = {kind.__name__: kind for kind in (Form, ConvolutionCut, LinearCut, OneCore, Tasks)}
_FILE = "measured.jsonl"


@dataclass(frozen=True)
class Measured:
    """A choice that measured better: for which workload, `what` that is in words, and microseconds with the cost model's choice
    and with this one."""

    workload: str
    what: str
    choice: Choice
    before: float
    after: float


@dataclass(frozen=True)
class Reading:
    """What a database holds for one machine and this compiler, and how many of its lines are damaged."""

    choices: Choices
    damaged: int = 0


@dataclass(frozen=True)
class Database:
    """Measured choices in a file. Any number of processes may read it and add to it at once."""

    path: Path

    def read(self, target: CpuTarget) -> Reading:
        """The choices for a target, measured on this machine by this compiler. A file that is not there holds none."""
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return Reading(Choices())
        here, found, damaged = _circumstances(target), {}, 0
        for line in lines:
            record = _decoded(line)
            if record is None:
                damaged += 1
            elif record["for"] == here:
                found[record["workload"]] = _choice(record)
        return Reading(Choices({w: c for w, c in found.items() if c is not None}), damaged)

    def add(self, target: CpuTarget, measured: Iterable[Measured]) -> None:
        """Adds choices, all or none of them. Raises OSError where the file cannot be written."""
        here = _circumstances(target)
        lines = b"".join(_encoded(here, m) for m in measured)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "ab") as file:
            file.write(lines)

    def count(self) -> int:
        """How many choices it holds, for whatever machine and compiler."""
        try:
            records = map(_decoded, self.path.read_bytes().splitlines())
        except OSError:
            return 0
        return len({(r["for"], r["workload"]) for r in records if r is not None})

    def clear(self) -> None:
        """Removes the file."""
        self.path.unlink(missing_ok=True)


def user_database() -> Database | None:
    """The user's database: dlc/tuning beside the cache of compiled kernels. None where it cannot be had, or where others may
    write to its folder."""
    compiled = cache_folder()
    if compiled is None:
        return None
    folder = compiled.with_name("tuning")
    return Database(folder / _FILE) if is_private(folder) else None


def measured_choices(target: CpuTarget | CudaTarget, tuning: bool | str | Path = True) -> Reading:
    """What was measured for a target on this machine: in the user's database, or in the one that `tuning` names; none where it
    is off. Raises DlcError (E0892) where there is no such file."""
    if tuning is False or not isinstance(target, CpuTarget):
        return Reading(Choices())
    database = user_database() if tuning is True else Database(Path(tuning))
    if tuning is not True and not Path(tuning).is_file():
        raise DlcError.of("E0892", f"there is no database {tuning}", help="`dlc tune SPEC --database FILE` makes one")
    return database.read(target) if database is not None else Reading(Choices())


def _circumstances(target: CpuTarget) -> str:
    """What a measurement holds for: the processor, the target's facts, among them vector width and cores, and the compiler."""
    return digest(this_processor(), target.lanes, target.identity, compiler_version())[:32]


def _encoded(here: str, measured: Measured) -> bytes:
    record = {
        "for": here,
        "workload": measured.workload,
        "what": measured.what,
        "kind": type(measured.choice).__name__,
        "choice": dataclasses.asdict(measured.choice),
        "before_us": round(measured.before, 3),
        "after_us": round(measured.after, 3),
    }
    return json.dumps({**record, "digest": _digest(record)}).encode() + b"\n"


def _decoded(line: bytes) -> dict[str, Any] | None:
    """A line's content; None where it is damaged."""
    try:
        record = json.loads(line)
        digest_of_line = record.pop("digest")
        return record if digest_of_line == _digest(record) else None
    except (ValueError, KeyError, AttributeError, TypeError):
        return None


def _choice(record: Mapping[str, Any]) -> Choice | None:
    """The choice of a line; None for a kind that this version does not know."""
    try:
        return msgspec.convert(record["choice"], type=_KINDS[record["kind"]])
    except (KeyError, msgspec.ValidationError):
        return None


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
