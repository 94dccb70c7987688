"""What a loss is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.ir import Value
from dlc.compiler.layers.base import FeatureShape


@dataclass(frozen=True)
class Loss(ABC):
    """A scalar from an output and the targets. Fields are the arguments that the language accepts."""

    keyword: ClassVar[str]

    @abstractmethod
    def check(self, output: FeatureShape) -> None:
        """Raises ShapeError where the output's shape (without batch) does not suit the loss."""

    @abstractmethod
    def build(self, output: Value, labels: Value) -> Value:
        """The mean over the batch, a float32 scalar (). `output` is [N, classes], `labels` int32 [N]."""
