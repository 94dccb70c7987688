"""Convolutions: plain, grouped and depthwise, dilated, transposed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.initializers.constant import Zeros
from dlc.compiler.ir import ShapeError, Value, apply
from dlc.compiler.layers.base import ArgumentError, BuildContext, FeatureShape, Layer, ParameterSpec, feature_shape
from dlc.compiler.layers.geometry import (
    Padding,
    Pair,
    image,
    pair,
    require_padding,
    require_positive,
    show,
    sides,
    window_output,
)
from dlc.compiler.ops.convolution import Conv2d, Conv2dInputGradient
from dlc.compiler.ops.elementwise import add


@dataclass(frozen=True)
class Conv(Layer):
    """`conv(channels, kernel, stride=1, pad=0, groups=1, dilation=1, bias=true)`: 2-d cross-correlation, as torch's Conv2d.

    [C, H, W] -> [channels, H', W'] with H' = (H + padding - dilation*(kernel-1) - 1) // stride + 1. `groups=C` is a
    depthwise convolution. Weight [channels, C/groups, kernel height, kernel width], fan in C/groups * kernel area; bias
    [channels], zero at first (torch draws it at random).
    """

    keyword: ClassVar[str] = "conv"
    channels: int
    kernel: Pair
    stride: Pair = 1
    pad: Padding = 0
    groups: int = 1
    dilation: Pair = 1
    bias: bool = True

    def __post_init__(self) -> None:
        require_positive(
            channels=self.channels, kernel=self.kernel, stride=self.stride, groups=self.groups, dilation=self.dilation
        )
        require_padding(self.pad, self.kernel)
        if self.channels % self.groups:
            raise ArgumentError("groups", f"{self.groups} groups do not divide {self.channels} output channels")

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        channels, height, width = image(self.keyword, inputs[0])
        if channels % self.groups:
            raise ShapeError(f"{self.groups} groups do not divide the {channels} channels of {show(inputs[0])}")
        padding = sides(self.pad, (height, width), self.kernel, self.stride, self.dilation)
        return self.channels, *window_output((height, width), self.kernel, self.stride, padding, self.dilation)

    def parameters(self, *inputs: FeatureShape) -> Mapping[str, ParameterSpec]:
        kh, kw = pair(self.kernel)
        fan_in, fan_out = inputs[0][0] // self.groups * kh * kw, self.channels // self.groups * kh * kw
        weight = ParameterSpec((self.channels, inputs[0][0] // self.groups, kh, kw), None, fan_in, fan_out)
        if not self.bias:
            return {"weight": weight}
        return {"weight": weight, "bias": ParameterSpec((self.channels,), Zeros(), fan_in, fan_out, role="bias")}

    def macs(self, *inputs: FeatureShape) -> int:
        channels, height, width = self.shape(*inputs)
        kh, kw = pair(self.kernel)
        return channels * height * width * (inputs[0][0] // self.groups) * kh * kw

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        (x,) = inputs
        _, height, width = image(self.keyword, feature_shape(x.type.shape))
        padding = sides(self.pad, (height, width), self.kernel, self.stride, self.dilation)
        op = Conv2d(self.channels, pair(self.kernel), pair(self.stride), padding, pair(self.dilation), self.groups)
        y = apply(op, x, context.parameters["weight"])
        return add(y, context.parameters["bias"]) if self.bias else y


@dataclass(frozen=True)
class ConvTranspose(Layer):
    """`conv_transpose(channels, kernel, stride=1, pad=0, output_pad=0, groups=1, dilation=1, bias=true)`, torch's ConvTranspose2d.

    The gradient of a convolution by its input: H' = (H-1)*stride - padding + dilation*(kernel-1) + output_pad + 1.
    Weight [C, channels/groups, kernel height, kernel width] (torch's order), fan in C/groups * kernel area.
    """

    keyword: ClassVar[str] = "conv_transpose"
    channels: int
    kernel: Pair
    stride: Pair = 1
    pad: int | tuple[int, int] | tuple[int, int, int, int] = 0
    output_pad: Pair = 0
    groups: int = 1
    dilation: Pair = 1
    bias: bool = True

    def __post_init__(self) -> None:
        require_positive(
            channels=self.channels, kernel=self.kernel, stride=self.stride, groups=self.groups, dilation=self.dilation
        )
        require_padding(self.pad)
        if self.channels % self.groups:
            raise ArgumentError("groups", f"{self.groups} groups do not divide {self.channels} output channels")
        for extra, s, d in zip(pair(self.output_pad), pair(self.stride), pair(self.dilation), strict=True):
            if not 0 <= extra < max(s, d):
                raise ArgumentError("output_pad", "must be at least 0 and smaller than the stride or the dilation")

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        channels, height, width = image(self.keyword, inputs[0])
        if channels % self.groups:
            raise ShapeError(f"{self.groups} groups do not divide the {channels} channels of {show(inputs[0])}")
        padding = sides(self.pad, (height, width), self.kernel)
        size = [
            (n - 1) * s - padding[axis] - padding[axis + 2] + d * (k - 1) + extra + 1
            for axis, (n, k, s, d, extra) in enumerate(
                zip(
                    (height, width),
                    pair(self.kernel),
                    pair(self.stride),
                    pair(self.dilation),
                    pair(self.output_pad),
                    strict=True,
                )
            )
        ]
        if min(size) < 1:
            raise ShapeError(f"padding {self.pad} leaves nothing of the transposed convolution of {show(inputs[0])}")
        return self.channels, size[0], size[1]

    def parameters(self, *inputs: FeatureShape) -> Mapping[str, ParameterSpec]:
        kh, kw = pair(self.kernel)
        fan_in, fan_out = inputs[0][0] // self.groups * kh * kw, self.channels // self.groups * kh * kw
        weight = ParameterSpec((inputs[0][0], self.channels // self.groups, kh, kw), None, fan_in, fan_out)
        if not self.bias:
            return {"weight": weight}
        return {"weight": weight, "bias": ParameterSpec((self.channels,), Zeros(), fan_in, fan_out, role="bias")}

    def macs(self, *inputs: FeatureShape) -> int:
        channels, height, width = inputs[0]
        kh, kw = pair(self.kernel)
        return channels * height * width * (self.channels // self.groups) * kh * kw

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        (x,) = inputs
        channels, height, width = image(self.keyword, feature_shape(x.type.shape))
        padding = sides(self.pad, (height, width), self.kernel)
        _, *size = self.shape(feature_shape(x.type.shape))
        op = Conv2dInputGradient(
            channels,
            pair(self.kernel),
            pair(self.stride),
            padding,
            pair(self.dilation),
            self.groups,
            input_size=(size[0], size[1], self.channels),
        )
        y = apply(op, x, context.parameters["weight"])
        return add(y, context.parameters["bias"]) if self.bias else y
