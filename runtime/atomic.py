"""Files that are whole or absent: written beside their place, then moved there in one step."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from dlc.runtime.errors import RuntimeFault


@contextmanager
def replace_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends well; else `path` stays as it was.

    A symbolic link stays one: the file that it points to is replaced. A file keeps its permissions. Raises RuntimeFault
    (R0110) where the folder is missing, writing is not allowed, the disk is full, or `path` is a device or a pipe; no
    temporary file is left behind then, nor after any other exception.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        mode = path.stat().st_mode if path.exists() else None
        if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "it is no regular file")
        with _removed_on_failure(temporary), open(temporary, "xb+") as file:
            if mode is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
    except OSError as error:
        raise write_fault(path, error) from error


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def write_fault(path: str | Path, error: OSError) -> RuntimeFault:
    """The fault for a file that could not be written."""
    reason = error.strerror or str(error)
    advice = {
        errno.ENOSPC: "free some space and try again; what was there before is untouched",
        errno.EDQUOT: "free some space and try again; what was there before is untouched",
        errno.ENOENT: "make the folder first",
        errno.EACCES: "choose a place that you may write to",
        errno.EROFS: "choose a place that you may write to",
        errno.EINVAL: "give the name of a file",
        errno.EISDIR: "give the name of a file, not of a folder",
    }.get(error.errno or 0, "")
    return RuntimeFault("R0110", f"cannot write {path}: {reason}", help=advice)


def read_fault(path: str | Path, error: OSError) -> RuntimeFault:
    """The fault for a file that could not be read."""
    reason = error.strerror or str(error)
    advice = "check the path" if error.errno == errno.ENOENT else ""
    return RuntimeFault("R0101", f"cannot read {path}: {reason}", help=advice)
