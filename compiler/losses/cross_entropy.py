"""Losses over log-probabilities of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dlc.compiler.ir import Value
from dlc.compiler.layers.base import ArgumentError, FeatureShape
from dlc.compiler.losses.base import Loss, require_scores, targets
from dlc.compiler.ops.composite import log_softmax
from dlc.compiler.ops.elementwise import add, multiply, negative
from dlc.compiler.ops.indexing import static
from dlc.compiler.ops.reduction import reduce_sum


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """`cross_entropy(label_smoothing=0, smoothing=uniform)`: -Σ t log softmax(output), the mean over the batch.

    With label smoothing ε, `uniform` (Szegedy et al. 2016, torch) gives the label 1-ε+ε/K and every other class ε/K;
    `others` (lecture) gives the label 1-ε and each of the others ε/(K-1).
    """

    keyword: ClassVar[str] = "cross_entropy"
    label_smoothing: float = 0.0
    smoothing: Literal["uniform", "others"] = "uniform"

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ArgumentError("label_smoothing", f"must be at least 0 and below 1, not {self.label_smoothing}")

    def check(self, output: FeatureShape) -> None:
        require_scores(self.keyword, output, least=2)

    def each(self, output: Value, labels: Value) -> Value:
        target = targets(output, labels)
        (classes,) = static(output.type.shape[1:])
        if self.label_smoothing:
            shared = self.label_smoothing / (classes if self.smoothing == "uniform" else classes - 1)
            own = 1.0 - self.label_smoothing + (shared if self.smoothing == "uniform" else 0.0)
            target = add(multiply(target, own - shared), shared)
        return negative(reduce_sum(multiply(target, log_softmax(output)), (1,)))


@dataclass(frozen=True)
class NegativeLogLikelihood(Loss):
    """`negative_log_likelihood`: -output[label], the mean over the batch, for outputs that end with log_softmax."""

    keyword: ClassVar[str] = "negative_log_likelihood"

    def check(self, output: FeatureShape) -> None:
        require_scores(self.keyword, output, least=2)

    def each(self, output: Value, labels: Value) -> Value:
        return negative(reduce_sum(multiply(targets(output, labels), output), (1,)))
