"""MNIST and Fashion-MNIST, from their four IDX files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dlc.runtime.data.checks import check_dataset
from dlc.runtime.data.download import Remote, cache_folder, fetch
from dlc.runtime.data.resize import Resize
from dlc.runtime.data.sources.base import Dataset, Facts, Source
from dlc.runtime.data.sources.idx import read_idx_folder

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class Mnist(Source):
    """Handwritten digits, 60,000 to train and 10,000 to test, uint8 [1, 28, 28] (LeCun et al., 1998).

    The four files, `.gz` or plain, lie in the directory `path`. Without it they are fetched once and kept in `cache`.
    """

    keyword: ClassVar[str] = "mnist"
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    )
    remotes: ClassVar[tuple[Remote, ...]] = (
        Remote("train-images-idx3-ubyte.gz", "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422),
        Remote("train-labels-idx1-ubyte.gz", "md5:d53e105ee54ea40749a09fcbcd1e9432", 28_881),
        Remote("t10k-images-idx3-ubyte.gz", "md5:9fb629c4189551a2d022fa330f9573f3", 1_648_877),
        Remote("t10k-labels-idx1-ubyte.gz", "md5:ec29112dd5afa0611ce80d1b7f02629c", 4_542),
    )

    path: str | None = None
    cache: str | None = None

    def facts(self) -> Facts:
        """One channel of 28x28, ten classes."""
        return Facts(1, (28, 28), len(self.classes))

    def load(self, directory: Path | None, size: Resize | None = None) -> Dataset:
        """Reads the four files, and fetches them first where no directory is given. Raises RuntimeFault as `fetch` does."""
        if directory is None and self.path is None:
            directory = cache_folder(self.keyword, self.cache)
            for remote in self.remotes:
                fetch(remote, self.mirrors, directory)
        train, test = read_idx_folder(self.keyword, self.path, directory, FILES)
        return check_dataset(Dataset(train, test, self.classes), str(directory or self.path))


@dataclass(frozen=True)
class FashionMnist(Mnist):
    """Articles of clothing in MNIST's form (Xiao et al., 2017); its files have MNIST's names and lie in `path`.

    Without it they are fetched once and kept in `cache`.
    """

    keyword: ClassVar[str] = "fashion-mnist"
    classes: ClassVar[tuple[str, ...]] = (
        "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    )
    remotes: ClassVar[tuple[Remote, ...]] = (
        Remote("train-images-idx3-ubyte.gz", "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
        Remote("train-labels-idx1-ubyte.gz", "md5:25c81989df183df01b3e8a0aad5dffbe", 29_515),
        Remote("t10k-images-idx3-ubyte.gz", "md5:bef4ecab320f06d8554ea6380940ec79", 4_422_102),
        Remote("t10k-labels-idx1-ubyte.gz", "md5:bb300cfdad3c16e7a12a480ee83cd310", 5_148),
    )
