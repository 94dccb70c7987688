"""A scale and a shift for each channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.initializers.constant import Constant, Zeros
from dlc.compiler.ir import Value
from dlc.compiler.layers.base import BuildContext, FeatureShape, Layer, ParameterSpec
from dlc.compiler.ops.elementwise import add, multiply


@dataclass(frozen=True)
class Affine(Layer):
    """`affine(bias=true)`: weight * x + bias, a trained number of each per channel (or feature), Caffe's Scale.

    Without `bias` it is the layer scale of Touvron et al. 2021. Weight [C], one at first; bias [C], zero at first.
    """

    keyword: ClassVar[str] = "affine"
    bias: bool = True

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        return inputs[0]

    def parameters(self, *inputs: FeatureShape) -> Mapping[str, ParameterSpec]:
        weight = ParameterSpec(inputs[0][:1], Constant(1.0), role="norm")
        if not self.bias:
            return {"weight": weight}
        return {"weight": weight, "bias": ParameterSpec(inputs[0][:1], Zeros(), role="norm")}

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        y = multiply(inputs[0], context.parameters["weight"])
        return add(y, context.parameters["bias"]) if self.bias else y
