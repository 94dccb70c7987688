"""Fetching the files of data sets: mirrors in turn, broken transfers taken up again, checksums, one directory to keep them."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dlc.runtime.atomic import write_fault
from dlc.runtime.errors import RuntimeFault

TIMEOUT = 20.0
"""Seconds without a byte after which a transfer has broken."""

ATTEMPTS = 4
"""How often a transfer that broke is taken up again from one mirror."""

PIECE = 1 << 16
"""Bytes read at once."""


@dataclass(frozen=True)
class Remote:
    """A file of a data set: its name, the checksum that its publisher gives ("md5:…" or "sha256:…"), its size in bytes."""

    name: str
    checksum: str
    size: int


class Watch(Protocol):
    """What is told of a transfer's progress."""

    def __call__(self, name: str, done: int, total: int) -> None:
        """`done` of `total` bytes of a file are there."""


class Line:
    """Progress on one line of a terminal; nothing where standard error is none."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, name: str, done: int, total: int) -> None:
        """Shows the part that is there, a few times a second."""
        now = time.monotonic()
        if not sys.stderr.isatty() or (now - self._last < 0.2 and done < total):
            return
        self._last = now
        part = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
        print(f"\r{name}: {part} ", end="\n" if done >= total else "", file=sys.stderr, flush=True)


def cache_folder(keyword: str, cache: str | None) -> Path:
    """Where a data set's files are kept: `cache`, or `dlc/data` in the user's cache directory, and the keyword below it."""
    if cache is not None:
        return Path(cache).expanduser() / keyword
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dlc" / "data" / keyword


def fetch(remote: Remote, mirrors: Sequence[str], folder: Path, watch: Watch | None = None) -> Path:
    """The file in `folder`, from the first mirror that has it whole; nothing is fetched where it is there already.

    A transfer that breaks leaves `NAME.part`, and goes on from there, now or at the next call, where the server can send
    a part of a file. Raises RuntimeFault: R0330 where no mirror could give the file (it says what to place where),
    R0331 where what came has another checksum, R0110 where it cannot be written.
    """
    place = folder / remote.name
    if place.is_file():
        return place
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_fault(folder, error) from error
    partial = folder / f"{remote.name}.part"
    reasons = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{remote.name}"
        try:
            _transfer(url, partial, remote, watch or Line())
        except _Unavailable as error:
            reasons.append(f"{url}: {error}")
            continue
        found = _checksum(partial, remote.checksum.partition(":")[0])
        if found == remote.checksum:
            os.replace(partial, place)
            return place
        partial.unlink()
        reasons.append(f"{url}: its checksum is {found}, not {remote.checksum}")
    code = "R0331" if any("checksum" in reason for reason in reasons) else "R0330"
    raise RuntimeFault(
        code,
        f"{remote.name} could not be fetched: {'; '.join(reasons)}",
        help=f"get it elsewhere and place it in {folder}, or give --data DIRECTORY with the files of the data set",
    )


class _Unavailable(Exception):
    """A mirror does not give the file."""


def _transfer(url: str, partial: Path, remote: Remote, watch: Watch) -> None:
    """Brings `partial` to the file's whole length. Raises _Unavailable where that fails for good."""
    for attempt in range(ATTEMPTS):
        before = _length(partial)
        try:
            if before < remote.size or before == 0:
                _receive(url, partial, remote, watch)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # what is there is longer than the file: begin anew
                partial.unlink(missing_ok=True)
                continue
            if error.code < 500:
                raise _Unavailable(f"{error.code} {error.reason}") from error
            reason: object = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error) or type(error).__name__
        else:
            if _length(partial) >= remote.size:
                return
            reason = f"the transfer broke after {_length(partial):,} of {remote.size:,} bytes"
        if _length(partial) == before and attempt:
            raise _Unavailable(str(reason))
        time.sleep(0.1 * attempt)
    raise _Unavailable(str(reason))


def _receive(url: str, partial: Path, remote: Remote, watch: Watch) -> None:
    """One request: the rest of the file where the server sends parts, else all of it from the beginning."""
    have = _length(partial)
    request = urllib.request.Request(url, headers={"User-Agent": "dlc", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if have and not (response.status == 206 and _starts_at(response.headers.get("Content-Range"), have)):
            have = 0
        try:
            free = shutil.disk_usage(partial.parent).free
            if free < remote.size - have:
                raise RuntimeFault(
                    "R0110",
                    f"{remote.name} takes {remote.size / 1e6:,.0f} MB, {partial.parent} has {free / 1e6:,.0f} MB free",
                    help='free some space, or keep data elsewhere: cache="DIRECTORY" in the data source',
                )
            with open(partial, "ab" if have else "wb") as file:
                while piece := _read(response):
                    file.write(piece)
                    have += len(piece)
                    watch(remote.name, have, max(remote.size, have))
        except OSError as error:
            if isinstance(error, TimeoutError | ConnectionError | urllib.error.URLError):
                raise
            raise write_fault(partial, error) from error


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(PIECE)
    except http.client.IncompleteRead as error:
        return error.partial


def _starts_at(header: str | None, place: int) -> bool:
    return header is not None and header.startswith(f"bytes {place}-")


def _length(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _checksum(path: Path, kind: str) -> str:
    with open(path, "rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"
