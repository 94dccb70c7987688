"""CIFAR-10 and CIFAR-100 in their binary and Python versions (Krizhevsky, 2009; cs.toronto.edu/~kriz/cifar.html)."""

from __future__ import annotations

import io
import lzma
import pickle
import tarfile
import zlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dlc.runtime.data.checks import check_dataset
from dlc.runtime.data.download import Remote, cache_folder, fetch
from dlc.runtime.data.files import locate, read
from dlc.runtime.data.resize import Resize
from dlc.runtime.data.sources.base import Dataset, Facts, Source, Split
from dlc.runtime.deferred import np
from dlc.runtime.errors import RuntimeFault

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Version:
    """One form in which the data set is published: the folder in its archive, and the files there."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str | None
    binary: bool

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read."""
        return (*self.train, *self.test, *([self.names] if self.names is not None else []))


@dataclass(frozen=True)
class Cifar(Source):
    """What both have in common. The archive, or its files, lie in `path`; without it the archive is fetched once."""

    mirrors: ClassVar[tuple[str, ...]] = ("https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz")
    remote: ClassVar[Remote]
    versions: ClassVar[tuple[Version, ...]]
    labels: ClassVar[int]
    kinds: ClassVar[int]
    key: ClassVar[bytes]

    path: str | None = None
    cache: str | None = None

    def facts(self) -> Facts:
        """Three channels of 32x32."""
        return Facts(3, (32, 32), self.kinds)

    def load(self, directory: Path | None, size: Resize | None = None) -> Dataset:
        """Reads the files, out of the archive where they are not unpacked. Raises RuntimeFault that names what is missing."""
        if directory is None and self.path is None:
            directory = fetch(self.remote, self.mirrors, cache_folder(self.keyword, self.cache)).parent
        needs = " or ".join(f"{v.archive}, or its files {v.files[0]} … {v.test[0]}" for v in self.versions)
        place = locate(self.keyword, self.path, directory, needs=needs)
        version, contents = self._found(place, needs)
        train, test = (
            _joined([self._split(version, name, contents(name)) for name in part])
            for part in (version.train, version.test)
        )
        return check_dataset(Dataset(train, test, self._classes(version, contents)), str(place))

    @abstractmethod
    def _classes(self, version: Version, contents: Callable[[str], bytes]) -> tuple[str, ...]:
        """The names of the classes."""

    def _found(self, place: Path, needs: str) -> tuple[Version, Callable[[str], bytes]]:
        """The version that is there, and what gives the contents of its files."""
        for version in self.versions:
            for folder in (place / version.folder, place):
                if all(any((folder / f"{name}{end}").is_file() for end in ("", ".gz")) for name in version.files):
                    return version, _reader(folder)
            for archive in (place, place / version.archive):
                if archive.is_file() and (archive != place or archive.name == version.archive):
                    members = _unpacked(archive, version)
                    return version, members.__getitem__
            missing = [name for name in version.files if not (place / name).is_file()]
            inner = place / version.folder
            if inner.is_dir() or len(missing) < len(version.files):
                folder = inner if inner.is_dir() else place
                missing = [name for name in version.files if not (folder / name).is_file()]
                what = "binary" if version.binary else "Python"
                raise RuntimeFault(
                    "R0304",
                    f"{folder} has no {missing[0]}",
                    help=f"place {', '.join(version.files)} there: the {what} version of the data set",
                )
        raise RuntimeFault("R0304", f"{place} has no {self.versions[0].archive}", help=f"place {needs} there")

    def _split(self, version: Version, name: str, data: bytes) -> Split:
        if version.binary:
            return _records(name, data, self.labels)
        content = _unpickled(name, data)
        try:
            pixels = np.asarray(content[b"data"], np.uint8).reshape(-1, 3, 32, 32)
            return Split(pixels, np.asarray(content[self.key], np.int32))
        except (KeyError, ValueError, TypeError) as error:
            raise RuntimeFault("R0307", f"{name} is no batch of {self.keyword}: {error!r}") from error


@dataclass(frozen=True)
class Cifar10(Cifar):
    """Photographs of ten kinds of things, 50,000 to train and 10,000 to test, uint8 [3, 32, 32].

    The archive of the binary or the Python version, or its files, lie in the directory `path`. Without it the binary
    version is fetched once and kept in `cache`.
    """

    keyword: ClassVar[str] = "cifar10"
    remote: ClassVar[Remote] = Remote(
        "cifar-10-binary.tar.gz", "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170_052_171
    )
    versions: ClassVar[tuple[Version, ...]] = (
        Version(
            "cifar-10-batches-bin", "cifar-10-binary.tar.gz",
            tuple(f"data_batch_{k}.bin" for k in range(1, 6)), ("test_batch.bin",), None, True,
        ),
        Version(
            "cifar-10-batches-py", "cifar-10-python.tar.gz",
            tuple(f"data_batch_{k}" for k in range(1, 6)), ("test_batch",), None, False,
        ),
    )  # fmt: skip
    labels: ClassVar[int] = 1
    kinds: ClassVar[int] = 10
    key: ClassVar[bytes] = b"labels"

    def _classes(self, version: Version, contents: Callable[[str], bytes]) -> tuple[str, ...]:
        return ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Cifar100(Cifar):
    """Photographs of a hundred kinds of things, 50,000 to train and 10,000 to test, uint8 [3, 32, 32]; the fine labels.

    The archive of the binary or the Python version, or its files, lie in the directory `path`. Without it the binary
    version is fetched once and kept in `cache`.
    """

    keyword: ClassVar[str] = "cifar100"
    remote: ClassVar[Remote] = Remote(
        "cifar-100-binary.tar.gz",
        "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        168_513_733,
    )
    versions: ClassVar[tuple[Version, ...]] = (
        Version(
            "cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), ("test.bin",), "fine_label_names.txt", True
        ),
        Version("cifar-100-python", "cifar-100-python.tar.gz", ("train",), ("test",), "meta", False),
    )
    labels: ClassVar[int] = 2
    kinds: ClassVar[int] = 100
    key: ClassVar[bytes] = b"fine_labels"

    def _classes(self, version: Version, contents: Callable[[str], bytes]) -> tuple[str, ...]:
        assert version.names is not None
        data = contents(version.names)
        if version.binary:
            return tuple(data.decode("utf-8", "replace").split())
        names = _unpickled(version.names, data).get(b"fine_label_names", [])
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)


def _reader(folder: Path) -> Callable[[str], bytes]:
    return lambda name: read(folder / name if (folder / name).is_file() else folder / f"{name}.gz")


def _unpacked(archive: Path, version: Version) -> dict[str, bytes]:
    """The files of the data set out of its archive; others in it are not looked at."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.removeprefix("./").removeprefix(f"{version.folder}/")
                file = tar.extractfile(member) if member.isfile() and name in version.files else None
                if file is not None:
                    found[name] = file.read()
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise RuntimeFault("R0306", f"{archive} is cut off or damaged: {error}", help="fetch the file again") from error
    except OSError as error:
        raise RuntimeFault("R0305", f"cannot read {archive}: {error.strerror or error}") from error
    missing = [name for name in version.files if name not in found]
    if missing:
        raise RuntimeFault("R0304", f"{archive} has no {version.folder}/{missing[0]}", help="fetch the file again")
    return found


def _records(name: str, content: bytes, labels: int) -> Split:
    """Records of label bytes (the last one counts) and pixels, red before green before blue, rows first."""
    data = np.frombuffer(content, np.uint8)
    if data.size == 0 or data.size % (labels + PIXELS):
        raise RuntimeFault(
            "R0306",
            f"{name} holds {data.size:,} bytes, which is not a number of records of {labels + PIXELS:,}",
            help="fetch the file again; it must be of the binary version",
        )
    records = data.reshape(-1, labels + PIXELS)
    return Split(records[:, labels:].reshape(-1, 3, 32, 32), records[:, labels - 1].astype(np.int32))


def _joined(parts: list[Split]) -> Split:
    return Split(np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts]))


class _ArraysOnly(pickle.Unpickler):
    """Reads pickles of dictionaries, lists and arrays; anything else that a pickle could call is refused."""

    ALLOWED = frozenset(
        (module, name)
        for package in ("numpy.core", "numpy._core")
        for module, name in ((f"{package}.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"))
    ) | {("_codecs", "encode")}

    def find_class(self, module: str, name: str) -> Any:
        """The few functions that arrays are made with."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _unpickled(name: str, data: bytes) -> dict[bytes, Any]:
    try:
        content = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise RuntimeFault(
            "R0306", f"{name} cannot be read as a pickle: {error}", help="fetch the file again"
        ) from error
    if not isinstance(content, dict):
        raise RuntimeFault("R0307", f"{name} holds no dictionary")
    return content
