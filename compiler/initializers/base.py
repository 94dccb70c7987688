"""What an initializer is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Initializer(ABC):
    """Fills a canonical weight. Fields are the arguments that the language accepts."""

    keyword: ClassVar[str]

    @abstractmethod
    def fill(self, shape: tuple[int, ...], fan_in: int, fan_out: int, generator: np.random.Generator) -> np.ndarray:
        """A float32 array of `shape`."""
