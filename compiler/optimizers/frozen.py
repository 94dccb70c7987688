"""Weights that training leaves as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from dlc.compiler.ir import Value
from dlc.compiler.optimizers.base import Optimizer, OptimizerScalars


@dataclass(frozen=True)
class Frozen(Optimizer):
    """`frozen`: keeps the weights of its group as they are: `optimizer sgd(lr=0.1), frozen for features.*`.

    Their gradients are not computed, no regularizer touches them, and they have no state. Running statistics of a frozen
    batch norm go on, as they do in torch where weights have requires_grad=False.
    """

    keyword: ClassVar[str] = "frozen"
    lr: float = field(default=0.0, init=False)

    def state(self) -> Mapping[str, float]:
        return {}

    def update(
        self, parameter: Value, gradient: Value, state: Mapping[str, Value], scalars: OptimizerScalars
    ) -> tuple[Value, Mapping[str, Value]]:
        return parameter, {}
