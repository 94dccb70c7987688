"""The small MNIST that ships with the package, so that the first training run needs no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dlc.runtime.data.checks import check_dataset
from dlc.runtime.data.resize import Resize
from dlc.runtime.data.sources.base import Dataset, Facts, Source, Split
from dlc.runtime.data.sources.npz import read_npz
from dlc.runtime.deferred import np

FILE = Path(__file__).resolve().parent.parent / "mnist_mini.npz"


@dataclass(frozen=True)
class MnistMini(Source):
    """6,000 training and 1,000 test digits of MNIST, 600 and 100 of each class, uint8 [1, 28, 28].

    `dlc/runtime/data/make_mnist_mini.py` chose them out of the full files, training samples from the training part and
    test samples from the test part. A directory is not needed and not looked at.
    """

    keyword: ClassVar[str] = "mnist-mini"

    def facts(self) -> Facts:
        """What the data set's makers say."""
        return Facts(1, (28, 28), 10)

    def load(self, directory: Path | None, size: Resize | None = None) -> Dataset:
        """Reads the file that ships with the package."""
        arrays = read_npz(FILE)
        train, test = (
            Split(arrays[f"x_{part}"][:, None], arrays[f"y_{part}"].astype(np.int32)) for part in ("train", "test")
        )
        return check_dataset(Dataset(train, test, tuple(str(digit) for digit in range(10))), str(FILE))
