"""Pooling: the largest, the mean or the smallest of a window, of the whole image or of a grid of regions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.initializers.constant import Constant, Zeros
from dlc.compiler.ir import Value, apply
from dlc.compiler.layers.base import ArgumentError, BuildContext, FeatureShape, Layer, ParameterSpec, feature_shape
from dlc.compiler.layers.geometry import (
    Padding,
    Pair,
    Rounding,
    Sides,
    image,
    pair,
    require_padding,
    require_positive,
    sides,
    window_output,
)
from dlc.compiler.ops import pooling as ops
from dlc.compiler.ops.composite import adaptive_avg_pool
from dlc.compiler.ops.elementwise import add, multiply
from dlc.compiler.ops.reduction import mean, reduce_max


@dataclass(frozen=True)
class Pool(Layer):
    """What the pools with a window share. The stride is the kernel's size unless it is given.

    `round=floor` (torch's default) drops an incomplete last window, `round=ceil` (Caffe's) keeps it; one that would start
    in the padding behind the image is dropped either way.
    """

    keyword: ClassVar[str]
    kernel: Pair
    stride: Pair | None = None
    pad: Padding = 0
    round: Rounding = "floor"

    def __post_init__(self) -> None:
        require_positive(kernel=self.kernel, stride=self.stride)
        require_padding(self.pad, self.kernel)
        if not isinstance(self.pad, str):
            most = sides(self.pad, (0, 0), self.kernel)
            if any(2 * p > k for p, k in zip(most, 2 * pair(self.kernel), strict=True)):
                raise ArgumentError("pad", "may be half the kernel at most: a window must not lie in the padding alone")

    @property
    def steps(self) -> tuple[int, int]:
        """The stride, height and width."""
        return pair(self.kernel if self.stride is None else self.stride)

    def padding(self, height: int, width: int) -> Sides:
        """Padding on top, left, bottom and right."""
        return sides(self.pad, (height, width), self.kernel, self.steps)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        channels, height, width = image(self.keyword, inputs[0])
        padding = self.padding(height, width)
        return channels, *window_output((height, width), self.kernel, self.steps, padding, round=self.round)


@dataclass(frozen=True)
class MaxPool(Pool):
    """`max_pool(kernel, stride=kernel, pad=0, round=floor)`: the largest of each window; padding never wins."""

    keyword: ClassVar[str] = "max_pool"

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        _, height, width = image(self.keyword, feature_shape(inputs[0].type.shape))
        padding = self.padding(height, width)
        return apply(ops.MaxPool(pair(self.kernel), self.steps, padding, self.round == "ceil"), inputs[0])


@dataclass(frozen=True)
class MinPool(Pool):
    """`min_pool(kernel, stride=kernel, pad=0, round=floor)`: the smallest of each window; padding never wins."""

    keyword: ClassVar[str] = "min_pool"

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        _, height, width = image(self.keyword, feature_shape(inputs[0].type.shape))
        padding = self.padding(height, width)
        return apply(ops.MinPool(pair(self.kernel), self.steps, padding, self.round == "ceil"), inputs[0])


@dataclass(frozen=True)
class AvgPool(Pool):
    """`avg_pool(kernel, stride=kernel, pad=0, round=floor, count_padding=true)`: the mean of each window.

    With `count_padding` (torch's and Caffe's default) padding counts as zeros; without it (TensorFlow's, ONNX's default) the
    sum is divided by the number of true pixels in the window. What `round=ceil` adds beyond the padding never counts.
    """

    keyword: ClassVar[str] = "avg_pool"
    count_padding: bool = True

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        _, height, width = image(self.keyword, feature_shape(inputs[0].type.shape))
        padding = self.padding(height, width)
        return apply(
            ops.AvgPool(pair(self.kernel), self.steps, padding, self.round == "ceil", self.count_padding), inputs[0]
        )


@dataclass(frozen=True)
class GlobalAvgPool(Layer):
    """`global_avg_pool`: the mean of each channel. [C, H, W] -> [C]."""

    keyword: ClassVar[str] = "global_avg_pool"

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        return (image(self.keyword, inputs[0])[0],)

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return mean(inputs[0], (1, 2))


@dataclass(frozen=True)
class GlobalMaxPool(Layer):
    """`global_max_pool`: the largest of each channel. [C, H, W] -> [C]."""

    keyword: ClassVar[str] = "global_max_pool"

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        return (image(self.keyword, inputs[0])[0],)

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return reduce_max(inputs[0], (1, 2))


@dataclass(frozen=True)
class AdaptiveAvgPool(Layer):
    """`adaptive_avg_pool(size)`: the means of a grid of `size` regions, torch's AdaptiveAvgPool2d. [C, H, W] -> [C, *size].

    Region i of n covers rows floor(i*H/n) to ceil((i+1)*H/n), so neighbours overlap where n does not divide H.
    """

    keyword: ClassVar[str] = "adaptive_avg_pool"
    size: Pair

    def __post_init__(self) -> None:
        require_positive(size=self.size)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        return image(self.keyword, inputs[0])[0], *pair(self.size)

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return adaptive_avg_pool(inputs[0], pair(self.size))


@dataclass(frozen=True)
class Subsample(Layer):
    """`subsample(kernel=2, stride=kernel)`: LeNet-5's trainable subsampling, coefficient * (sum of the window) + bias.

    LeCun et al. 1998, section II.B, layers S2 and S4; the squashing function is a layer of its own. One coefficient
    (`weight` [C]) and one bias [C] per channel; the coefficient starts at 1 / window area, which makes it the mean.
    """

    keyword: ClassVar[str] = "subsample"
    kernel: Pair = 2
    stride: Pair | None = None

    def __post_init__(self) -> None:
        require_positive(kernel=self.kernel, stride=self.stride)

    @property
    def steps(self) -> tuple[int, int]:
        """The stride, height and width."""
        return pair(self.kernel if self.stride is None else self.stride)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        channels, height, width = image(self.keyword, inputs[0])
        return channels, *window_output((height, width), self.kernel, self.steps, (0, 0, 0, 0))

    def parameters(self, *inputs: FeatureShape) -> Mapping[str, ParameterSpec]:
        kh, kw = pair(self.kernel)
        return {
            "weight": ParameterSpec((inputs[0][0],), Constant(1.0 / (kh * kw)), kh * kw, 1),
            "bias": ParameterSpec((inputs[0][0],), Zeros(), kh * kw, 1, role="bias"),
        }

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        kh, kw = pair(self.kernel)
        means = apply(ops.AvgPool((kh, kw), self.steps, (0, 0, 0, 0), False, True), inputs[0])
        coefficient = multiply(context.parameters["weight"], float(kh * kw))
        return add(multiply(means, coefficient), context.parameters["bias"])
