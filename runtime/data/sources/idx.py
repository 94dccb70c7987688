"""The IDX format of the MNIST files, and the source `idx` that reads any four of them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dlc.runtime.data.checks import check_dataset, numbered_classes
from dlc.runtime.data.files import find, locate, read
from dlc.runtime.data.resize import Resize
from dlc.runtime.data.sources.base import Dataset, Source, Split
from dlc.runtime.deferred import np
from dlc.runtime.errors import RuntimeFault

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""Element types by the third byte of the magic number (yann.lecun.com/exdb/mnist)."""


@dataclass(frozen=True)
class Idx(Source):
    """Four IDX files, gzip or plain, in the directory `path`; give their names where they differ from MNIST's.

    Images are uint8 [n, height, width] or [n, channels, height, width]; labels any integer type [n]. A name without its
    `.gz` finds both.
    """

    keyword: ClassVar[str] = "idx"

    path: str | None = None
    train_images: str = "train-images-idx3-ubyte"
    train_labels: str = "train-labels-idx1-ubyte"
    test_images: str = "t10k-images-idx3-ubyte"
    test_labels: str = "t10k-labels-idx1-ubyte"

    def load(self, directory: Path | None, size: Resize | None = None) -> Dataset:
        """Reads the four files. Classes are named by their numbers."""
        names = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        train, test = read_idx_folder(self.keyword, self.path, directory, names)
        origin = str(directory or self.path)
        return check_dataset(Dataset(train, test, numbered_classes(train, test, origin)), origin)


def read_idx_folder(
    keyword: str, path: str | None, directory: Path | None, names: tuple[str, str, str, str]
) -> tuple[Split, Split]:
    """The training and test part out of four IDX files: training images, training labels, test images, test labels."""
    needs = ", ".join(names) + " (each plain or .gz)"
    folder = locate(keyword, path, directory, needs=needs)
    if not folder.is_dir():
        raise RuntimeFault("R0304", f"{folder} is not a directory", help=f"`{keyword}` reads {needs} from a directory")
    # The files are also found with a dot before `idx`, as some copies have them.
    files = [find(folder, _spellings(name), help=f"place {needs} there") for name in names]
    train = Split(_images(files[0]), _labels(files[1]))
    test = Split(_images(files[2]), _labels(files[3]))
    for split, (images, labels) in ((train, files[:2]), (test, files[2:])):
        if len(split.images) != len(split.labels):
            raise RuntimeFault(
                "R0310", f"{images} has {len(split.images)} images but {labels} has {len(split.labels)} labels"
            )
    return train, test


def read_idx(path: Path) -> np.ndarray:
    """One IDX file as an array of its own shape, in the machine's byte order.

    Raises RuntimeFault where the magic number is not IDX's, or where the header promises another number of bytes than
    the file has.
    """
    data = read(path)
    if len(data) < 4 or data[0] or data[1] or data[2] not in TYPES:
        raise RuntimeFault(
            "R0307",
            f"{path} is not an IDX file: it starts with {data[:4].hex(' ') or 'nothing'}",
            help="an IDX file starts with 00 00, a type and a number of dimensions, such as 00 00 08 03",
        )
    rank, dtype = data[3], np.dtype(TYPES[data[2]])
    start = 4 + 4 * rank
    if len(data) < start:
        raise RuntimeFault("R0306", f"{path} is cut off inside its header", help="fetch the file again")
    shape = struct.unpack(f">{rank}I", data[4:start])
    promised = dtype.itemsize
    for size in shape:
        promised *= size
    if len(data) - start != promised:
        raise RuntimeFault(
            "R0306",
            f"{path} should hold {promised:,} bytes for shape {list(shape)}, but holds {len(data) - start:,}",
            help="fetch the file again",
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _images(path: Path) -> np.ndarray:
    array = read_idx(path)
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise RuntimeFault(
            "R0311",
            f"{path} holds {array.dtype} of shape {list(array.shape)}, not uint8 images [n, height, width]",
            help="is it the labels' file?" if array.ndim == 1 else "",
        )
    return array[:, None] if array.ndim == 3 else array


def _labels(path: Path) -> np.ndarray:
    array = read_idx(path)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise RuntimeFault(
            "R0311",
            f"{path} holds {array.dtype} of shape {list(array.shape)}, not labels [n]",
            help="is it the images' file?" if array.ndim >= 3 else "",
        )
    return array.astype(np.int32)


def _spellings(name: str) -> list[str]:
    plain = name.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")
    return list(dict.fromkeys([name, plain, f"{plain}.gz", dotted, f"{dotted}.gz"]))
