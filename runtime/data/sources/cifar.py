"""CIFAR-10 and CIFAR-100, from their binary files (Krizhevsky, 2009; cs.toronto.edu/~kriz/cifar.html)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dlc.runtime.data.checks import check_dataset
from dlc.runtime.data.files import find, locate, read
from dlc.runtime.data.sources.base import Dataset, Source, Split
from dlc.runtime.deferred import np
from dlc.runtime.errors import RuntimeFault

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Cifar10(Source):
    """Photographs of ten kinds of things, 50,000 to train and 10,000 to test, uint8 [3, 32, 32].

    data_batch_1.bin to data_batch_5.bin and test_batch.bin lie in the directory `path`, or in cifar-10-batches-bin there.
    """

    keyword: ClassVar[str] = "cifar10"

    path: str | None = None

    def load(self, directory: Path | None) -> Dataset:
        """Reads the six files."""
        folder = _folder(
            self.keyword, self.path, directory, "cifar-10-batches-bin", "data_batch_1.bin … test_batch.bin"
        )
        train = _read(folder, [f"data_batch_{number}.bin" for number in range(1, 6)], labels=1)
        test = _read(folder, ["test_batch.bin"], labels=1)
        classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
        return check_dataset(Dataset(train, test, classes), str(folder))


@dataclass(frozen=True)
class Cifar100(Source):
    """Photographs of a hundred kinds of things, 50,000 to train and 10,000 to test, uint8 [3, 32, 32]; the fine labels.

    train.bin, test.bin and fine_label_names.txt lie in the directory `path`, or in cifar-100-binary there.
    """

    keyword: ClassVar[str] = "cifar100"

    path: str | None = None

    def load(self, directory: Path | None) -> Dataset:
        """Reads the files."""
        needs = "train.bin, test.bin, fine_label_names.txt"
        folder = _folder(self.keyword, self.path, directory, "cifar-100-binary", needs)
        train, test = (_read(folder, [f"{part}.bin"], labels=2) for part in ("train", "test"))
        names = find(folder, ["fine_label_names.txt"], help=f"place {needs} there")
        classes = tuple(read(names).decode("utf-8", "replace").split())
        return check_dataset(Dataset(train, test, classes), str(folder))


def _folder(keyword: str, path: str | None, directory: Path | None, inner: str, needs: str) -> Path:
    place = locate(keyword, path, directory, needs=needs)
    return place / inner if (place / inner).is_dir() else place


def _read(folder: Path, names: Sequence[str], labels: int) -> Split:
    """Records of label bytes (the last one counts) and pixels, red before green before blue, rows first."""
    parts = []
    for name in names:
        path = find(
            folder, [name, f"{name}.gz"], help=f"place {', '.join(names)} there: the binary version of the data set"
        )
        data = np.frombuffer(read(path), np.uint8)
        if data.size == 0 or data.size % (labels + PIXELS):
            raise RuntimeFault(
                "R0306",
                f"{path} holds {data.size:,} bytes, which is not a number of records of {labels + PIXELS:,}",
                help="fetch the file again; it must be of the binary version",
            )
        parts.append(data.reshape(-1, labels + PIXELS))
    records = np.concatenate(parts)
    return Split(records[:, labels:].reshape(-1, 3, 32, 32), records[:, labels - 1].astype(np.int32))
