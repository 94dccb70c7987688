"""Dropout, inverted and as in the original paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dlc.compiler.layers.base import ArgumentError, FeatureShape, Layer


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
