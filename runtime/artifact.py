"""The artifact: one `.dlc` file with a model's manifest, machine code and weights.

    64 bytes   header: magic, format, size of the manifest, size of the file, SHA-256 of the manifest
    manifest   JSON: what the model is, its network, its programs, its target, and where code and weights lie
    code       a shared object with the kernels of each program
    weights    safetensors, mapped into memory rather than read: one copy for all programs, as far as they read the same

All parts start at multiples of 64 bytes. Loading compares sizes and the digests of all parts before any code is mapped, so
a file that was cut off or changed by accident is refused. Digests do not protect against malice: an artifact is a program,
load it only from where you would run a program from. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from dlc.runtime import threads
from dlc.runtime.atomic import read_fault, replace_file
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.device import check_cpu
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.memory import aligned
from dlc.runtime.plan import Program
from dlc.runtime.weights import lay_out, parse

MAGIC = b"\x89DLC\r\n\x1a\n"
"""A byte above 127 and both kinds of line end show a transfer that took the file for text."""

FORMAT = 2
"""Changes whenever an older dlc could not read the file, or would misread it."""

_HEADER = struct.Struct("<8sIIQ32s8x")
_CHUNK = 8 * 2**20


class TargetSpec(msgspec.Struct, frozen=True):
    """What the code is made for: the target as the user named it, LLVM's triple and processor, and the instruction set
    features that the code may use, by LLVM's names (those of `device.FEATURES`)."""

    name: str
    triple: str
    cpu: str
    features: tuple[str, ...] = ()


class Section(msgspec.Struct, frozen=True):
    """A part of the file: where it starts behind the manifest, its bytes, and their digest (see `digest`)."""

    offset: int
    size: int
    digest: str


class Manifest(msgspec.Struct, frozen=True):
    """What the model is. `classes` are names by index, empty if unknown; `source` is the data source it was trained on (its
    keyword and arguments), empty if unknown; `versions` say what made the file; `network` is JSON that the compiler reads;
    `precision` is the element type of the products' factors; `tuning` says, by functions and by convolutions' sizes, what
    measurements decided about the code in the cost models' place."""

    model: str
    program: Program
    target: TargetSpec
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    source: dict[str, Any] = {}
    versions: dict[str, str] = {}
    network: msgspec.Raw = msgspec.Raw(b"null")
    precision: str = "float32"
    tuning: dict[str, str] = {}


class _Other(msgspec.Struct, frozen=True):
    program: Program
    code: Section


class _File(msgspec.Struct, frozen=True):
    manifest: Manifest
    code: Section
    weights: Section
    others: tuple[_Other, ...] = ()


@dataclass(frozen=True)
class Variant:
    """The model's program for images of another size, its shared object, and those of its weights that the artifact's main
    program does not read in the same form."""

    program: Program
    code: bytes | memoryview
    weights: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Artifact:
    """A compiled model in memory: its manifest, its shared object, and its weights.

    `weights` holds what the kernels read, in the form in which they read it but for weights with a transform, and what else
    belongs to the network in canonical form: all its weights can be had from them. `variants` are programs for images of other sizes.
    """

    manifest: Manifest
    code: bytes | memoryview
    weights: Mapping[str, np.ndarray]
    variants: tuple[Variant, ...] = ()


Sizes = tuple[tuple[int, int], ...]
"""Height and width of each input that is an image."""


def image_sizes(program: Program) -> Sizes:
    """The sizes of the images that a program takes."""
    return tuple((spec.shape[2], spec.shape[3]) for spec in program.inputs if len(spec.shape) == 4)


def show_sizes(sizes: Sizes) -> str:
    """As people write it: 224x320; of several images, with commas."""
    return ",".join(f"{height}x{width}" for height, width in sizes)


def digest(data: memoryview) -> str:
    """SHA-256 over the SHA-256 of every 8 MB, in hex: parts are hashed on all cores, about 1.5 GB/s each."""
    parts = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    if len(parts) < 2:
        digests = [hashlib.sha256(part).digest() for part in parts]
    else:
        from concurrent.futures import ThreadPoolExecutor  # 5 ms that small artifacts never need

        with ThreadPoolExecutor(threads.available()) as workers:
            digests = list(workers.map(lambda part: hashlib.sha256(part).digest(), parts))
    return hashlib.sha256(b"".join(digests)).hexdigest()


def save_artifact(path: str | Path, artifact: Artifact) -> None:
    """Writes an artifact, atomically: `path` is the whole new file or what it was before.

    Raises RuntimeFault (R0110) where it cannot be written, a full disk included.
    """
    from concurrent.futures import ThreadPoolExecutor  # 5 ms that loading never needs

    own = {_own(v, name): array for v in artifact.variants for name, array in v.weights.items()}
    blob = lay_out({**artifact.weights, **own})
    codes = [memoryview(code).cast("B") for code in (artifact.code, *(v.code for v in artifact.variants))]
    digests = [digest(code) for code in codes]
    weights_start = sum(aligned(len(code)) for code in codes)
    blank = _manifest(artifact, codes, digests, weights_start, "0" * 64, blob.size)
    start = aligned(_HEADER.size + len(blank))
    with replace_file(path) as file:
        file.write(bytes(start))
        for code in codes:
            file.write(code)
            file.write(bytes(aligned(len(code)) - len(code)))
        blob.write(file)
        file.flush()
        size = start + weights_start + blob.size
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            data = view[start + weights_start :]
            with ThreadPoolExecutor(1) as disk:  # it works while this computes
                written = disk.submit(os.fsync, file.fileno())
                weights_digest = digest(data)
            data.release()
            written.result()
        manifest = _manifest(artifact, codes, digests, weights_start, weights_digest, blob.size)
        file.seek(0)
        file.write(_HEADER.pack(MAGIC, FORMAT, len(manifest), size, hashlib.sha256(manifest).digest()))
        file.write(manifest)


def _manifest(
    artifact: Artifact,
    codes: list[memoryview],
    digests: list[str],
    weights_start: int,
    weights_digest: str,
    weights_size: int,
) -> bytes:
    sections, end = [], 0
    for code, hashed in zip(codes, digests, strict=True):
        sections.append(Section(end, len(code), hashed))
        end += aligned(len(code))
    others = tuple(_Other(v.program, s) for v, s in zip(artifact.variants, sections[1:], strict=True))
    weights = Section(weights_start, weights_size, weights_digest)
    return msgspec.json.encode(_File(artifact.manifest, sections[0], weights, others))


def _own(variant: Variant, name: str) -> str:
    """What a weight that only a variant reads is called in the file."""
    return f"{show_sizes(image_sizes(variant.program))}/{name}"


def load_artifact(path: str | Path, *, runs_here: bool = True) -> Artifact:
    """Opens an artifact. Its weights are arrays over the mapped file: pages that are written become private copies. The file
    may be replaced or deleted meanwhile, but not overwritten in place.

    Every part's digest is compared first, then the processor with what the code needs. Raises RuntimeFault where the file
    is missing (R0101), no artifact (R0102), of another format (R0103), cut off (R0104), damaged (R0105), or does not fit
    this machine (R0107), which is only asked if it `runs_here`.
    """
    try:
        with open(path, "rb") as file:
            size, manifest_size, manifest_digest = _read_header(path, file)
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    except OSError as error:
        raise read_fault(path, error) from error
    if len(data) != size:
        raise _cut_off(path, len(data), size)
    text = data[_HEADER.size : _HEADER.size + manifest_size]
    if hashlib.sha256(text).digest() != manifest_digest:
        raise _damaged(path, "manifest")
    try:
        content = msgspec.json.decode(text, type=_File)
    except msgspec.DecodeError as error:
        raise RuntimeFault(
            "R0103", f"the manifest of {path} is not of this version of dlc: {error}", help="compile the model again"
        ) from error
    start = aligned(_HEADER.size + manifest_size)
    parts: list[memoryview] = []
    for section in (content.weights, content.code, *(other.code for other in content.others)):
        begin = start + section.offset
        part = data[begin : begin + section.size]
        if len(part) != section.size or digest(part) != section.digest:
            raise _damaged(path, "code" if parts else "weights")
        parts.append(part)
    if runs_here and content.manifest.program.device == "cpu":
        check_cpu(content.manifest.target.triple, content.manifest.target.features)
    weights, _ = parse(parts[0], str(path))
    variants = []
    for other, code in zip(content.others, parts[2:], strict=True):
        blank = Variant(other.program, code, {})
        own = {spec.name: _own(blank, spec.name) for spec in other.program.weights}
        variants.append(replace(blank, weights={n: weights.pop(key) for n, key in own.items() if key in weights}))
    return Artifact(content.manifest, parts[1], weights, tuple(variants))


def read_manifest(path: str | Path) -> Manifest:
    """The manifest alone, whatever machine the artifact is for. Raises RuntimeFault as `load_artifact` does."""
    try:
        with open(path, "rb") as file:
            _, manifest_size, manifest_digest = _read_header(path, file)
            text = file.read(manifest_size)
    except OSError as error:
        raise read_fault(path, error) from error
    if hashlib.sha256(text).digest() != manifest_digest:
        raise _damaged(path, "manifest")
    try:
        return msgspec.json.decode(text, type=_File).manifest
    except msgspec.DecodeError as error:
        raise RuntimeFault(
            "R0103", f"the manifest of {path} is not of this version of dlc: {error}", help="compile the model again"
        ) from error


def _read_header(path: str | Path, file: BinaryIO) -> tuple[int, int, bytes]:
    """The sizes of file and manifest, and the manifest's digest."""
    head = file.read(_HEADER.size)
    if head[: len(MAGIC)] != MAGIC:
        reason = (
            "it was changed as if it were text, perhaps in a transfer" if head[:4] in (b"\x89DLC", b"\tDLC") else ""
        )
        if head and len(head) < len(MAGIC) and MAGIC.startswith(head):
            raise _cut_off(path, len(head), _HEADER.size)
        raise RuntimeFault(
            "R0102",
            f"{path} is not a dlc artifact" + (f": {reason}" if reason else ""),
            help="artifacts are made by `dlc compile` and `dlc train`",
        )
    if len(head) < _HEADER.size:
        raise _cut_off(path, len(head), _HEADER.size)
    _, version, manifest_size, size, manifest_digest = _HEADER.unpack(head)
    if version != FORMAT:
        age = "a newer" if version > FORMAT else "an older"
        raise RuntimeFault(
            "R0103",
            f"{path} has artifact format {version}, made by {age} dlc; this one reads format {FORMAT}",
            help="compile the model again with this dlc",
        )
    if head[-8:] != bytes(8):
        raise _damaged(path, "header")
    return size, manifest_size, manifest_digest


def _cut_off(path: str | Path, have: int, want: int) -> RuntimeFault:
    word = "cut off" if have < want else "too long"
    return RuntimeFault(
        "R0104",
        f"{path} is {word}: it has {have:,} bytes instead of {want:,}",
        help="copy it again, or compile the model again",
    )


def _damaged(path: str | Path, part: str) -> RuntimeFault:
    return RuntimeFault(
        "R0105",
        f"{path} is damaged: its {part} does not match its digest",
        help="copy it again, or compile the model again",
    )
