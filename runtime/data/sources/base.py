"""What a data source is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Split:
    """Images as uint8 or float32 [n, channels, height, width] (uint8 counts 0..255), labels as int32 [n]."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Training and test samples and the names of the classes."""

    train: Split
    test: Split
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Source(ABC):
    """Where samples come from. Fields are the arguments that the language accepts.

    `path` (or `dlc train --data DIR`) names the directory or file, for sources that need one.
    """

    keyword: ClassVar[str]

    @abstractmethod
    def load(self, directory: Path | None) -> Dataset:
        """Reads the samples. Raises runtime errors that name the file and what is wrong with it."""
