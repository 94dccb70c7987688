"""What an optimizer is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.ir import Value


@dataclass(frozen=True)
class OptimizerScalars:
    """Run-time scalars of a training step: `rate` (float32 (), the scheduled learning rate) and `step` (uint32 (), from 0)."""

    rate: Value
    step: Value


@dataclass(frozen=True)
class Optimizer(ABC):
    """A rule that turns a gradient into a new parameter, element by element, compiled into the training step.

    Fields are the arguments that the language accepts; `lr` is the base rate that the schedule scales.
    """

    keyword: ClassVar[str]
    lr: float

    @abstractmethod
    def state(self) -> Mapping[str, float]:
        """Per-parameter tensors of the parameter's shape that live between steps: name -> initial value."""

    @abstractmethod
    def update(
        self, parameter: Value, gradient: Value, state: Mapping[str, Value], scalars: OptimizerScalars
    ) -> tuple[Value, Mapping[str, Value]]:
        """The new parameter and the new state. Element-wise only: parameters may be stored packed."""
