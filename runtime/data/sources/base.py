"""What a data source is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dlc.runtime.data.resize import Resize
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Split:
    """Images as uint8 or float32 [n, channels, height, width] (uint8 counts 0..255), labels as int32 [n]."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Training and test samples, the names of the classes, and what the user should be told."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What is known of a source's samples before anything is read; None is not known. `size` is height and width."""

    channels: int | None = None
    size: tuple[int, int] | None = None
    classes: int | None = None


@dataclass(frozen=True)
class Source(ABC):
    """Where samples come from. Fields are the arguments that the language accepts.

    `path` (or `dlc train --data DIR`) names the directory or file, for sources that need one.
    """

    keyword: ClassVar[str]

    def facts(self) -> Facts:
        """What is known of the samples before anything is read."""
        return Facts()

    @abstractmethod
    def load(self, directory: Path | None, size: Resize | None = None) -> Dataset:
        """Reads the samples. Raises runtime errors that name the file and what is wrong with it.

        `size` is what the images are brought to afterwards; a source whose images differ in size does it at once.
        """
