"""What an augmentation is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Transform(ABC):
    """A random change of training images, a batch at a time. Fields are the arguments that the language accepts."""

    keyword: ClassVar[str]

    @abstractmethod
    def apply(self, images: np.ndarray, generators: np.random.Generator) -> np.ndarray:
        """float32 [n, channels, height, width] -> the same shape. Random numbers come from the given generator alone."""
