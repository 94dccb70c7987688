"""Dropout, inverted and as in the original paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dlc.compiler.ir import Value
from dlc.compiler.layers.base import ArgumentError, BuildContext, FeatureShape, Layer
from dlc.compiler.ops.composite import dropout, dropout_original
from dlc.compiler.ops.elementwise import multiply


@dataclass(frozen=True)
class Dropout(Layer):
    """`dropout(p=0.5, at=training)`: each element is zeroed with probability `p` while training.

    `at` says where the scale is made good: `training` (inverted dropout, torch and everyone since) multiplies what is kept
    by 1/(1-p) and leaves inference alone; `inference` (Srivastava et al. 2014, AlexNet) multiplies by 1-p at inference.
    """

    keyword: ClassVar[str] = "dropout"
    p: float = 0.5
    at: Literal["training", "inference"] = "training"

    def __post_init__(self) -> None:
        if not 0 <= self.p < 1:
            raise ArgumentError("p", f"must be at least 0 and below 1, not {self.p}; it is the chance to drop")

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        return inputs[0]

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        (x,) = inputs
        if not context.training:
            return multiply(x, 1.0 - self.p) if self.at == "inference" and self.p else x
        if context.seed is None or context.step is None:
            raise AssertionError("dropout in training needs the seed and the step")
        drop = dropout if self.at == "training" else dropout_original
        return drop(x, self.p, context.stream, context.seed, context.step)
