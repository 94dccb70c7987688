"""What a stopping rule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Stopping(ABC):
    """Decides after each epoch whether training ends. Fields are the arguments that the language accepts."""

    keyword: ClassVar[str]
    monitor: str

    @abstractmethod
    def stops(self, history: Sequence[Mapping[str, float]]) -> bool:
        """`history` holds one mapping per finished epoch: "train.loss", "val.loss", "val.error" …

        Every mapping has the value `monitor`; training checks that before it begins.
        """
