"""Weights: the safetensors format, canonical weight files, and the match between a file's names and a network's.

A file is 8 bytes of header length (little endian), the header in JSON (name -> type, shape, place in the data), and the data.
Artifacts start every tensor at a multiple of 64 bytes, so that it can be used where it lies in a mapped file; tensors named
`_pad.N` fill the gaps, because the format allows none. Weight files have none of these: other systems load them by name.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from dlc.runtime.arrays import aligned_copy, element_type
from dlc.runtime.atomic import read_fault, replace_file
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.memory import aligned
from dlc.runtime.names import closest

_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64",
    "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_NAMES = {name: code for code, name in _TYPES.items()}
_PADDING = "_pad."
_HEADER_LIMIT = 100_000_000  # the format's own


class _Entry(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


@dataclass(frozen=True)
class Blob:
    """Tensors laid out as safetensors, ready to be written. `size` is in bytes, header included."""

    header: bytes
    arrays: tuple[np.ndarray, ...]  # paddings included, contiguous
    size: int

    def write(self, file: BinaryIO) -> None:
        """Writes header and data."""
        file.write(self.header)
        for array in self.arrays:
            file.write(array.reshape(-1).view(np.uint8).data)


def lay_out(weights: Mapping[str, np.ndarray], notes: Mapping[str, str] | None = None, *, padded: bool = True) -> Blob:
    """Lays arrays out, with `padded` so that each starts at a multiple of 64 bytes; `notes` are text facts kept in the header."""
    header: dict[str, Any] = {"__metadata__": dict(notes)} if notes else {}
    arrays: list[np.ndarray] = []
    end = 0
    for name, value in weights.items():
        if name.startswith(_PADDING) or name == "__metadata__":
            raise ValueError(f"{name!r} is a reserved name")
        array = np.ascontiguousarray(value).reshape(np.shape(value))  # ascontiguousarray makes () into (1,)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        size = array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype.name], "shape": array.shape, "data_offsets": (end, end + size)}
        arrays.append(array)
        end += size
        gap = aligned(end) - end if padded else 0
        if gap:
            header[f"{_PADDING}{len(arrays)}"] = {"dtype": "U8", "shape": (gap,), "data_offsets": (end, end + gap)}
            arrays.append(np.zeros(gap, np.uint8))
            end += gap
    text = msgspec.json.encode(header)
    text += b" " * (aligned(8 + len(text)) - 8 - len(text))
    return Blob(len(text).to_bytes(8, "little") + text, tuple(arrays), 8 + len(text) + end)


def parse(data: memoryview, origin: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of safetensors bytes as arrays over those bytes, without a copy, and the header's notes.

    `origin` names the file in faults. Raises RuntimeFault (R0402) where the bytes are not a whole safetensors file.
    """
    header, start = _header(data, origin)
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict):
        raise _damaged(origin, "its notes are not a table")
    arrays = {}
    body = data[start:]
    covered = 0
    for name, raw in header.items():
        try:
            entry = msgspec.convert(raw, _Entry)
        except msgspec.ValidationError as error:
            raise _damaged(origin, f"the entry of {name!r} is wrong: {error}") from error
        if entry.dtype not in _TYPES:
            raise RuntimeFault("R0402", f"{origin}: tensor {name!r} has the unknown type {entry.dtype!r}")
        kind = element_type(_TYPES[entry.dtype])
        begin, end = entry.data_offsets
        if any(n < 0 for n in entry.shape) or not 0 <= begin <= end <= len(body):
            raise _damaged(origin, f"tensor {name!r} lies outside it; it may be cut off")
        if end - begin != prod(entry.shape) * kind.itemsize:
            raise _damaged(
                origin, f"tensor {name!r} has {end - begin} bytes, which is not {list(entry.shape)} of {kind}"
            )
        covered = max(covered, end)
        if not name.startswith(_PADDING):
            arrays[name] = np.frombuffer(body[begin:end], np.uint8).view(kind).reshape(entry.shape)
    if covered != len(body):
        raise _damaged(origin, f"it has {len(body) - covered} bytes too many")
    return arrays, {str(key): str(value) for key, value in notes.items()}


def _header(data: memoryview, origin: str) -> tuple[dict[str, Any], int]:
    if len(data) < 8:
        raise _damaged(origin, "it is shorter than a header")
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size <= min(_HEADER_LIMIT, len(data) - 8):
        raise _damaged(origin, "its header is cut off or no header at all")
    try:
        header = msgspec.json.decode(data[8 : 8 + size])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(origin, f"its header cannot be read: {error}") from error
    if not isinstance(header, dict):
        raise _damaged(origin, "its header is not a table")
    return header, 8 + size


def _damaged(origin: str, reason: str) -> RuntimeFault:
    return RuntimeFault("R0402", f"{origin} is not a whole safetensors file: {reason}", help="get the file again")


def save_weights(path: str | Path, weights: Mapping[str, np.ndarray], notes: Mapping[str, str] | None = None) -> None:
    """Writes arrays as one safetensors file, atomically. Raises RuntimeFault (R0110) where that fails."""
    blob = lay_out(weights, notes, padded=False)
    with replace_file(path) as file:
        blob.write(file)


def load_weights(path: str | Path, *, mapped: bool = False) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, as aligned, writable copies; or `mapped`, read-only, while the file stays.

    Raises RuntimeFault (R0101, R0402) where the file is missing, cut off, damaged, or not a safetensors file.
    """
    arrays, _ = parse(_map(path), str(path))
    return arrays if mapped else {name: aligned_copy(array) for name, array in arrays.items()}


def load_notes(path: str | Path) -> dict[str, str]:
    """The text facts in a safetensors file's header. Raises as `load_weights` does."""
    return parse(_map(path), str(path))[1]


def _map(path: str | Path) -> memoryview:
    try:
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except ValueError as error:  # an empty file cannot be mapped
        raise _damaged(str(path), "it is empty") from error
    except OSError as error:
        raise read_fault(path, error) from error


@dataclass(frozen=True)
class Mismatch:
    """How a file's weights differ from a network's: names only the network has, names only the file has, and names in
    both with the shapes wanted and found."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.misshapen)

    def lines(self, limit: int = 10) -> list[str]:
        """The differences as text, one a line, near misses paired up; at most `limit` of each kind."""
        lines = []
        for name in self.missing[:limit]:
            near = closest(name, self.extra)
            lines.append(f"missing: {name}" + (f" (the file has {near})" if near else ""))
        lines += [_more(self.missing, limit)]
        lines += [f"unknown: {name}" for name in self.extra[:limit]]
        lines += [_more(self.extra, limit)]
        for name, want, have in self.misshapen[:limit]:
            lines.append(f"misshapen: {name} must be {list(want)}, the file has {list(have)}")
        lines += [_more(self.misshapen, limit)]
        return [line for line in lines if line]


def _more(items: Sequence[object], limit: int) -> str:
    return f"and {len(items) - limit} more" if len(items) > limit else ""


def compare(shapes: Mapping[str, tuple[int, ...]], arrays: Mapping[str, np.ndarray]) -> Mismatch:
    """How arrays differ from the names and shapes that a network has."""
    return Mismatch(
        missing=tuple(name for name in shapes if name not in arrays),
        extra=tuple(name for name in arrays if name not in shapes),
        misshapen=tuple((n, s, arrays[n].shape) for n, s in shapes.items() if n in arrays and arrays[n].shape != s),
    )


def fill(
    shapes: Mapping[str, tuple[int, ...]],
    arrays: Mapping[str, np.ndarray],
    fallback: Mapping[str, np.ndarray],
    origin: str,
) -> tuple[dict[str, np.ndarray], Mismatch]:
    """Those of the arrays whose name and shape a network has, `fallback`'s for its other weights, and what did not fit.

    Raises RuntimeFault (R0403) where nothing fits.
    """
    fitting = {name: arrays[name] for name, shape in shapes.items() if name in arrays and arrays[name].shape == shape}
    if not fitting:
        raise RuntimeFault("R0403", f"no weight of {origin} has the name and shape of one of the network's")
    return {name: fitting.get(name, fallback[name]) for name in shapes}, compare(shapes, arrays)


def match(
    shapes: Mapping[str, tuple[int, ...]], arrays: Mapping[str, np.ndarray], origin: str, *, dtype: str = "float32"
) -> dict[str, np.ndarray]:
    """The arrays for a network's weights (canonical shapes by name), in the network's order, as `dtype`.

    Names and shapes must match exactly. float16, bfloat16 and float64 are converted; other types are refused.
    Raises RuntimeFault (R0403) that lists what is missing, unknown and misshapen.
    """
    difference = compare(shapes, arrays)
    if difference:
        counts = (len(difference.missing), len(difference.extra), len(difference.misshapen))
        parts = [f"{n} {word}" for n, word in zip(counts, ("missing", "unknown", "misshapen"), strict=True) if n]
        raise RuntimeFault(
            "R0403",
            f"the weights of {origin} do not fit the network: {', '.join(parts)}\n   "
            + "\n   ".join(difference.lines()),
            help="they belong to another network, or to another version of this one",
        )
    kind = element_type(dtype)
    for name in shapes:
        found = arrays[name].dtype
        if found != kind and found.name not in ("float16", "bfloat16", "float32", "float64"):
            raise RuntimeFault("R0403", f"{origin}: weight {name!r} holds {found}, not {dtype}")
    return {name: arrays[name].astype(kind, copy=False) for name in shapes}
