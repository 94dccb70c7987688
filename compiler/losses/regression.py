"""Losses between the output and one-hot targets (1 for the label's class, 0 for the others).

Of a network with a single output, the target is the label's number itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.ir import Value
from dlc.compiler.layers.base import ArgumentError, FeatureShape
from dlc.compiler.losses.base import Loss, require_scores, targets
from dlc.compiler.ops.composite import softplus
from dlc.compiler.ops.elementwise import less, multiply, subtract, where
from dlc.compiler.ops.functions import absolute
from dlc.compiler.ops.reduction import mean


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """`mean_squared_error`: (output - target)², the mean over batch and classes (torch's MSELoss)."""

    keyword: ClassVar[str] = "mean_squared_error"

    def check(self, output: FeatureShape) -> None:
        require_scores(self.keyword, output)

    def each(self, output: Value, labels: Value) -> Value:
        error = subtract(output, targets(output, labels))
        return mean(multiply(error, error), (1,))


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """`mean_absolute_error`: |output - target|, the mean over batch and classes (torch's L1Loss)."""

    keyword: ClassVar[str] = "mean_absolute_error"

    def check(self, output: FeatureShape) -> None:
        require_scores(self.keyword, output)

    def each(self, output: Value, labels: Value) -> Value:
        return mean(absolute(subtract(output, targets(output, labels))), (1,))


@dataclass(frozen=True)
class Huber(Loss):
    """`huber(delta=1)`: e²/2 for |e| < delta, else delta (|e| - delta/2); the mean over batch and classes (torch's HuberLoss)."""

    keyword: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        if self.delta <= 0:
            raise ArgumentError("delta", f"must be above 0, not {self.delta}")

    def check(self, output: FeatureShape) -> None:
        require_scores(self.keyword, output)

    def each(self, output: Value, labels: Value) -> Value:
        error = subtract(output, targets(output, labels))
        size = absolute(error)
        square = multiply(multiply(error, error), 0.5)
        line = multiply(subtract(size, self.delta / 2), self.delta)
        return mean(where(less(size, self.delta), square, line), (1,))


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """`binary_cross_entropy`: -t log sigmoid(x) - (1-t) log(1 - sigmoid(x)) of each output x, the mean over batch and classes.

    From the logits (torch's BCEWithLogitsLoss), as max(x, 0) - x t + log(1 + exp(-|x|)).
    """

    keyword: ClassVar[str] = "binary_cross_entropy"

    def check(self, output: FeatureShape) -> None:
        require_scores(self.keyword, output)

    def each(self, output: Value, labels: Value) -> Value:
        target = targets(output, labels)
        return mean(subtract(softplus(output), multiply(output, target)), (1,))
