"""Reading data files: the directory they are looked for in, and the faults of missing, truncated and foreign ones."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Sequence
from pathlib import Path

from dlc.runtime.errors import RuntimeFault


def locate(keyword: str, path: str | None, directory: Path | None, *, needs: str) -> Path:
    """The directory or file of a source: `directory` (the command line's `--data`) where given, else `path`.

    Raises RuntimeFault where there is neither, or where nothing is there; `needs` says what should be.
    """
    place = directory if directory is not None else Path(path).expanduser() if path is not None else None
    if place is None:
        raise RuntimeFault(
            "R0303",
            f"the data source `{keyword}` needs a place to read from",
            help=f'give --data PATH, or path="…" in the data section; it should hold {needs}',
        )
    if not place.exists():
        raise RuntimeFault(
            "R0304", f"{place} does not exist", help=f"the data source `{keyword}` reads {needs} from there"
        )
    return place


def find(folder: Path, names: Sequence[str], *, help: str) -> Path:
    """The first of `names` in `folder`. Raises RuntimeFault where there is none."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise RuntimeFault("R0304", f"{folder} has no {' or '.join(names)}", help=help)


def read(path: Path) -> bytes:
    """The contents of a file, unpacked where it is gzip by its first bytes. Raises RuntimeFault where it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RuntimeFault("R0305", f"cannot read {path}: {error.strerror or error}") from error
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        what = "is cut off" if isinstance(error, EOFError) else "is damaged"
        raise RuntimeFault("R0306", f"{path} {what}: {error}", help="fetch the file again") from error
