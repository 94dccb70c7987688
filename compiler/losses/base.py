"""What a loss is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.ir import ShapeError, Value
from dlc.compiler.layers.base import FeatureShape
from dlc.compiler.ops.elementwise import cast
from dlc.compiler.ops.encoding import one_hot
from dlc.compiler.ops.indexing import static
from dlc.compiler.ops.reduction import mean
from dlc.compiler.ops.shape import reshape


@dataclass(frozen=True)
class Loss(ABC):
    """A scalar from an output and the targets. Fields are the arguments that the language accepts."""

    keyword: ClassVar[str]

    @abstractmethod
    def check(self, output: FeatureShape) -> None:
        """Raises ShapeError where the output's shape (without batch) does not suit the loss."""

    @abstractmethod
    def each(self, output: Value, labels: Value) -> Value:
        """The loss of every sample, float32 [N]. `output` is [N, classes], `labels` int32 [N]."""

    def build(self, output: Value, labels: Value) -> Value:
        """The mean over the batch, a float32 scalar ()."""
        return mean(self.each(output, labels), (0,))


def require_scores(keyword: str, output: FeatureShape, least: int = 1) -> None:
    """Raises ShapeError unless the output is [classes], with `least` classes or more."""
    if len(output) != 1:
        raise ShapeError(f"{keyword} needs an output [classes], not [{', '.join(map(str, output))}]")
    if output[0] < least:
        raise ShapeError(f"{keyword} needs at least {least} classes, the output is [{output[0]}]")


def targets(output: Value, labels: Value) -> Value:
    """1 at the label's class, 0 elsewhere, [N, classes]. Of a single output [N, 1], the label itself."""
    batch, classes = output.type.shape
    if classes == 1:
        return cast(reshape(labels, (batch, 1)), output.type.dtype)
    return one_hot(labels, static((classes,))[0])
