"""What an optimizer is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from dlc.compiler.ir import Value
from dlc.compiler.layers.base import ArgumentError

GRADIENT = "gradient"
"""The name of a weight's gradient so far among its states, where a step's batch goes through in parts."""


@dataclass(frozen=True)
class OptimizerScalars:
    """Run-time scalars of a training step: `rate` (float32 (), the scheduled learning rate) and `step` (uint32 (), from 0).

    `shared` holds what `Optimizer.shared` made of them, once for all parameters of the group.
    """

    rate: Value
    step: Value
    shared: Mapping[str, Value] = field(default_factory=dict)


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

    def shared(self, scalars: OptimizerScalars) -> Mapping[str, Value]:
        """Further scalars that every parameter's update needs (Adam's bias corrections), by name."""
        return {}

    @abstractmethod
    def update(
        self, parameter: Value, gradient: Value, state: Mapping[str, Value], scalars: OptimizerScalars
    ) -> tuple[Value, Mapping[str, Value]]:
        """The new parameter and the new state. Element-wise only: parameters may be stored packed."""


def require_rate(lr: float) -> None:
    """Raises ArgumentError for a negative learning rate; 0 freezes."""
    if lr < 0:
        raise ArgumentError("lr", f"must not be negative, not {lr}")


def require_fraction(field: str, value: float) -> None:
    """Raises ArgumentError for a number outside 0 (allowed) to 1 (not allowed)."""
    if not 0 <= value < 1:
        raise ArgumentError(field, f"must be at least 0 and below 1, not {value}")
