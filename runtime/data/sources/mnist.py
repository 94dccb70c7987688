"""MNIST and Fashion-MNIST, from their four IDX files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dlc.runtime.data.checks import check_dataset
from dlc.runtime.data.sources.base import Dataset, Source
from dlc.runtime.data.sources.idx import read_idx_folder

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class Mnist(Source):
    """Handwritten digits, 60,000 to train and 10,000 to test, uint8 [1, 28, 28] (LeCun et al., 1998).

    The four files, `.gz` or plain, lie in the directory `path`.
    """

    keyword: ClassVar[str] = "mnist"

    path: str | None = None

    def load(self, directory: Path | None) -> Dataset:
        """Reads the four files."""
        train, test = read_idx_folder(self.keyword, self.path, directory, FILES)
        classes = tuple(str(digit) for digit in range(10))
        return check_dataset(Dataset(train, test, classes), str(directory or self.path))


@dataclass(frozen=True)
class FashionMnist(Source):
    """Articles of clothing in MNIST's form (Xiao et al., 2017); its files have MNIST's names and lie in `path`."""

    keyword: ClassVar[str] = "fashion-mnist"

    path: str | None = None

    def load(self, directory: Path | None) -> Dataset:
        """Reads the four files."""
        train, test = read_idx_folder(self.keyword, self.path, directory, FILES)
        classes = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
        return check_dataset(Dataset(train, test, classes), str(directory or self.path))
