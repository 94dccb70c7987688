"""Losses that compare the label's score with the other classes' scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.ir import Value
from dlc.compiler.layers.base import ArgumentError, FeatureShape
from dlc.compiler.losses.base import Loss, require_scores, targets
from dlc.compiler.ops.elementwise import add, log, maximum, multiply, subtract
from dlc.compiler.ops.functions import detach
from dlc.compiler.ops.functions import exp as exponential
from dlc.compiler.ops.reduction import mean, reduce_max, reduce_sum


@dataclass(frozen=True)
class Hinge(Loss):
    """`hinge(margin=1, squared=false)`: Σ over the other classes of max(0, margin - score(label) + score) / K, the mean over the batch.

    Weston and Watkins 1999, as torch's MultiMarginLoss; `squared` squares each term.
    """

    keyword: ClassVar[str] = "hinge"
    margin: float = 1.0
    squared: bool = False

    def __post_init__(self) -> None:
        if self.margin <= 0:
            raise ArgumentError("margin", f"must be above 0, not {self.margin}")

    def check(self, output: FeatureShape) -> None:
        require_scores(self.keyword, output, least=2)

    def each(self, output: Value, labels: Value) -> Value:
        target = targets(output, labels)
        own = reduce_sum(multiply(target, output), (1,), keep=True)
        short = maximum(add(subtract(output, own), self.margin), 0.0)
        term = multiply(short, short) if self.squared else short
        return mean(multiply(term, subtract(1.0, target)), (1,))


@dataclass(frozen=True)
class RbfMap(Loss):
    """`rbf_map(j=0.1)`: LeNet-5's maximum a posteriori criterion, LeCun et al. 1998, eq. 9, the mean over the batch.

    With penalties y = -output of `rbf` units and the label D: y_D + log(e^-j + Σ_i e^-y_i). The second term is competitive:
    it pushes the wrong classes' penalties up, the less the further they are beyond j.
    """

    keyword: ClassVar[str] = "rbf_map"
    j: float = 0.1

    def check(self, output: FeatureShape) -> None:
        require_scores(self.keyword, output, least=2)

    def each(self, output: Value, labels: Value) -> Value:
        own = reduce_sum(multiply(targets(output, labels), output), (1,))
        top = detach(maximum(reduce_max(output, (1,), keep=True), -self.j))
        spread = add(
            reduce_sum(exponential(subtract(output, top)), (1,), keep=True), exponential(subtract(-self.j, top))
        )
        competition = reduce_sum(add(log(spread), top), (1,))
        return subtract(competition, own)
