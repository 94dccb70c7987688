"""The fully connected layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.initializers.constant import Zeros
from dlc.compiler.ir import ShapeError, Value, apply
from dlc.compiler.layers.base import BuildContext, FeatureShape, Layer, ParameterSpec
from dlc.compiler.layers.geometry import require_positive, show
from dlc.compiler.ops.elementwise import add
from dlc.compiler.ops.linear import Linear as LinearOp


@dataclass(frozen=True)
class Linear(Layer):
    """`linear(features, bias=true)`: y = W x + b. [F] -> [features]; images are flattened first (`flatten`).

    Weight [features, F], bias [features], zero at first (torch draws it at random).
    """

    keyword: ClassVar[str] = "linear"
    features: int
    bias: bool = True

    def __post_init__(self) -> None:
        require_positive(features=self.features)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        if len(inputs[0]) != 1:
            raise ShapeError(
                f"linear needs features [n], not {show(inputs[0])}; put flatten or global_avg_pool before it"
            )
        return (self.features,)

    def parameters(self, *inputs: FeatureShape) -> Mapping[str, ParameterSpec]:
        weight = ParameterSpec((self.features, inputs[0][0]), None, inputs[0][0], self.features)
        if not self.bias:
            return {"weight": weight}
        bias = ParameterSpec((self.features,), Zeros(), inputs[0][0], self.features, role="bias")
        return {"weight": weight, "bias": bias}

    def macs(self, *inputs: FeatureShape) -> int:
        return self.features * inputs[0][0]

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        y = apply(LinearOp(self.features), inputs[0], context.parameters["weight"])
        return add(y, context.parameters["bias"]) if self.bias else y
