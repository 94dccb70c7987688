"""A recipe's loss of scores that a network gave: what validation measures beside training's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from dlc.compiler.interpret import evaluate
from dlc.compiler.ir import DType, Input, N, TensorType, Value, source
from dlc.compiler.ops.elementwise import add, multiply
from dlc.compiler.ops.reduction import reduce_sum
from dlc.compiler.recipe import LossTerm, Recipe
from dlc.runtime.training.metrics.base import Metric


@dataclass(frozen=True)
class RecipeLoss(Metric):
    """The sum of a recipe's losses of one output of `classes` scores, label smoothing included, by the interpreter.

    Losses of other outputs (auxiliary heads) and regularizers are left out: inference has the one, data does not know the other.
    """

    keyword: ClassVar[str] = "loss"
    terms: tuple[LossTerm, ...]
    classes: int

    @classmethod
    def of(cls, recipe: Recipe) -> RecipeLoss:
        """That of the output that the recipe's metrics look at."""
        (classes,) = next(o.tensor.shape for o in recipe.network.outputs if o.name == recipe.scores)
        return cls(tuple(term for term in recipe.losses if term.output == recipe.scores), classes)

    def total(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """The sum over the samples of a batch."""
        if not self.terms:
            return 0.0
        with np.errstate(all="ignore"):  # what is not finite makes a NaN, which training stops at
            (total,) = evaluate([self._sum], {"scores": scores.astype(np.float64), "labels": labels})
        return float(total)

    @cached_property
    def _sum(self) -> Value:
        output = source(Input("scores", TensorType((N, self.classes))))
        labels = source(Input("labels", TensorType((N,), DType.INT32)))
        total: Value | None = None
        for term in self.terms:
            part = multiply(reduce_sum(term.loss.each(output, labels), (0,)), term.weight)
            total = part if total is None else add(total, part)
        assert total is not None
        return total
