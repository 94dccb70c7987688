"""Softmax over the channels, and its logarithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.ir import Value
from dlc.compiler.layers.base import BuildContext, FeatureShape, Layer
from dlc.compiler.ops.composite import log_softmax, softmax


@dataclass(frozen=True)
class Softmax(Layer):
    """`softmax`: exp(x) / sum of exp(x), over the features, or over the channels at each pixel."""

    keyword: ClassVar[str] = "softmax"

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        return inputs[0]

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return softmax(inputs[0])


@dataclass(frozen=True)
class LogSoftmax(Layer):
    """`log_softmax`: log(softmax(x)), computed without overflow."""

    keyword: ClassVar[str] = "log_softmax"

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        return inputs[0]

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return log_softmax(inputs[0])
