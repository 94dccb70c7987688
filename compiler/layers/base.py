"""What a layer is: typed arguments, a shape rule, parameters, and its meaning as ops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from dlc.compiler.initializers.base import Initializer
from dlc.compiler.ir import Shape, Value
from dlc.runtime.arguments import ArgumentError as ArgumentError  # what layers raise too

FeatureShape = tuple[int, ...]
"""A tensor's shape as the language shows it: channels, height, width (or features), without the batch."""


@dataclass(frozen=True)
class ParameterSpec:
    """One weight of a layer, in canonical form.

    `init` is the default initializer (None: the recipe's choice for weights). `fan_in` and `fan_out` count inputs and
    outputs per unit. `trainable` is False for running statistics and fixed tables. `role` is what `except=[bias, …]`
    and parameter groups select by: "weight", "bias", "norm" or "statistic".
    """

    shape: tuple[int, ...]
    init: Initializer | None = None
    fan_in: int = 1
    fan_out: int = 1
    trainable: bool = True
    role: str = "weight"


@dataclass
class BuildContext:
    """What a layer's `build` may use besides its inputs.

    `parameters` are the layer's own parameters as graph values, by the names of `Layer.parameters`. `training` selects
    the training form (dropout active, batch statistics). `seed` and `step` are the scalar inputs (uint32) that feed the
    counter-based random numbers; `stream` is a number unique to the layer. `update(name, value)` says what a running
    statistic holds after the step.
    """

    parameters: Mapping[str, Value]
    training: bool
    seed: Value | None = None
    step: Value | None = None
    stream: int = 0
    updates: dict[str, Value] = field(default_factory=dict)

    def update(self, name: str, value: Value) -> None:
        self.updates[name] = value


@dataclass(frozen=True)
class Layer(ABC):
    """A function of one or more tensors. Fields are the arguments that the language accepts, by name, type and default.

    Positional arguments follow the order of the fields. A subclass's name in the language is its `keyword`.
    """

    keyword: ClassVar[str]
    arity: ClassVar[tuple[int, int | None]] = (1, 1)  # least and most inputs; None: any number

    @abstractmethod
    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        """The output's shape. Raises ShapeError with a sentence that states the fact."""

    def parameters(self, *inputs: FeatureShape) -> Mapping[str, ParameterSpec]:
        """The weights that the layer needs for these inputs, in canonical order and form."""
        return {}

    @abstractmethod
    def build(self, context: BuildContext, *inputs: Value) -> Value:
        """The layer as ops. Images are channels last here: [N, height, width, channels]; features are [N, features]."""

    def macs(self, *inputs: FeatureShape) -> int:
        """Multiply-adds for one sample; only convolutions and linear layers count (docs: numbers)."""
        return 0


def feature_shape(shape: Shape) -> FeatureShape:
    """The language's view of a graph shape: [N, H, W, C] -> (C, H, W), [N, F] -> (F,)."""
    sizes: Sequence[int] = [int(d) for d in shape[1:]]  # type: ignore[arg-type]  # only the first dimension is the batch
    return (sizes[-1], *sizes[:-1])
