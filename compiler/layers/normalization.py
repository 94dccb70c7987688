"""Normalisation: over the batch, over a sample, over groups of channels, over neighbouring channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, Literal

from dlc.compiler.initializers.constant import Constant, Zeros
from dlc.compiler.ir import ShapeError, Value
from dlc.compiler.layers.base import ArgumentError, BuildContext, FeatureShape, Layer, ParameterSpec, feature_shape
from dlc.compiler.layers.geometry import image, require_positive, show
from dlc.compiler.ops.base import constant
from dlc.compiler.ops.elementwise import add, divide, multiply, power
from dlc.compiler.ops.functions import detach, sqrt
from dlc.compiler.ops.indexing import count
from dlc.compiler.ops.normalization import batch_norm_inference, batch_norm_training, standardize
from dlc.compiler.ops.shape import reshape, transpose
from dlc.compiler.ops.slicing import pad, strided_slice
from dlc.runtime.deferred import np


def _affine(shape: tuple[int, ...]) -> dict[str, ParameterSpec]:
    return {
        "weight": ParameterSpec(shape, Constant(1.0), role="norm"),
        "bias": ParameterSpec(shape, Zeros(), role="norm"),
    }


def _require_eps(eps: float) -> None:
    if eps <= 0:
        raise ArgumentError("eps", f"must be above 0, not {eps}")


@dataclass(frozen=True)
class BatchNorm(Layer):
    """`batch_norm(eps=1e-5, momentum=0.1, affine=true)`: Ioffe and Szegedy 2015, with torch's conventions.

    y = (x - mean) / sqrt(variance + eps) * weight + bias, per channel (or feature). Training uses the batch's mean and
    biased variance and keeps running = (1 - momentum) * running + momentum * batch, with the unbiased variance (Caffe and
    Keras mean the other factor by momentum); inference uses the running statistics.
    """

    keyword: ClassVar[str] = "batch_norm"
    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = True

    def __post_init__(self) -> None:
        _require_eps(self.eps)
        if not 0 <= self.momentum <= 1:
            raise ArgumentError("momentum", f"must be between 0 and 1, not {self.momentum}; it is the new batch's part")

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        return inputs[0]

    def parameters(self, *inputs: FeatureShape) -> Mapping[str, ParameterSpec]:
        channels = (inputs[0][0],)
        statistics = {
            "running_mean": ParameterSpec(channels, Zeros(), trainable=False, role="statistic"),
            "running_var": ParameterSpec(channels, Constant(1.0), trainable=False, role="statistic"),
        }
        return {**_affine(channels), **statistics} if self.affine else statistics

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        (x,) = inputs
        gamma, beta = self._affine(context, channels=feature_shape(x.type.shape)[0])
        if not context.training:
            running = context.parameters["running_mean"], context.parameters["running_var"]
            return batch_norm_inference(x, gamma, beta, *running, self.eps)
        y, average, variance = batch_norm_training(x, gamma, beta, self.eps)
        self._keep(context, average, variance, number=count(x.type.shape[:-1]))
        return y

    def _affine(self, context: BuildContext, channels: int) -> tuple[Value, Value]:
        if self.affine:
            return context.parameters["weight"], context.parameters["bias"]
        return constant(np.ones(channels), key="ones"), constant(np.zeros(channels), key="zeros")

    def _keep(self, context: BuildContext, average: Value, variance: Value, number: int) -> None:
        unbiased = multiply(variance, number / max(number - 1, 1))
        for name, value in (("running_mean", average), ("running_var", unbiased)):
            old = multiply(context.parameters[name], 1.0 - self.momentum)
            context.update(name, detach(add(old, multiply(value, self.momentum))))


@dataclass(frozen=True)
class LayerNorm(Layer):
    """`layer_norm(eps=1e-5, affine=true, over=all)`: Ba, Kiros and Hinton 2016, per sample.

    `over=all` takes mean and variance over all features, with a weight and a bias for each (torch's LayerNorm of the whole
    shape); `over=channels` over the channels at each pixel, with a weight and a bias per channel (ConvNeXt's).
    """

    keyword: ClassVar[str] = "layer_norm"
    eps: float = 1e-5
    affine: bool = True
    over: Literal["all", "channels"] = "all"

    def __post_init__(self) -> None:
        _require_eps(self.eps)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        return inputs[0]

    def parameters(self, *inputs: FeatureShape) -> Mapping[str, ParameterSpec]:
        if not self.affine:
            return {}
        return _affine(inputs[0] if self.over == "all" else inputs[0][:1])

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        (x,) = inputs
        last = x.type.rank - 1
        y = standardize(x, (last,) if self.over == "channels" else tuple(range(1, last + 1)), self.eps)
        if not self.affine:
            return y
        weight, bias = context.parameters["weight"], context.parameters["bias"]
        if weight.type.rank == 3:  # [C, H, W] -> [H, W, C]
            weight, bias = transpose(weight, (1, 2, 0)), transpose(bias, (1, 2, 0))
        return add(multiply(y, weight), bias)


@dataclass(frozen=True)
class GroupNorm(Layer):
    """`group_norm(groups, eps=1e-5, affine=true)`: Wu and He 2018, over the pixels of a group of channels, per sample.

    Weight and bias [C], per channel.
    """

    keyword: ClassVar[str] = "group_norm"
    groups: int
    eps: float = 1e-5
    affine: bool = True

    def __post_init__(self) -> None:
        require_positive(groups=self.groups)
        _require_eps(self.eps)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        if inputs[0][0] % self.groups:
            raise ShapeError(f"{self.groups} groups do not divide the {inputs[0][0]} channels of {show(inputs[0])}")
        return inputs[0]

    def parameters(self, *inputs: FeatureShape) -> Mapping[str, ParameterSpec]:
        return _affine(inputs[0][:1]) if self.affine else {}

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        (x,) = inputs
        batch, pixels = x.type.shape[0], x.type.shape[1:-1]
        grouped = reshape(x, (batch, count(pixels), self.groups, feature_shape(x.type.shape)[0] // self.groups))
        y = reshape(standardize(grouped, (1, 3), self.eps), x.type.shape)
        return _scale_and_shift(context, y) if self.affine else y


@dataclass(frozen=True)
class InstanceNorm(Layer):
    """`instance_norm(eps=1e-5, affine=false)`: Ulyanov et al. 2016, each channel of each sample by its own statistics.

    Torch's default, no weight and bias, and no running statistics.
    """

    keyword: ClassVar[str] = "instance_norm"
    eps: float = 1e-5
    affine: bool = False

    def __post_init__(self) -> None:
        _require_eps(self.eps)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        _, height, width = image(self.keyword, inputs[0])
        if height * width == 1:
            raise ShapeError(f"instance_norm needs more than one pixel, not {show(inputs[0])}: it would give zeros")
        return inputs[0]

    def parameters(self, *inputs: FeatureShape) -> Mapping[str, ParameterSpec]:
        return _affine(inputs[0][:1]) if self.affine else {}

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        y = standardize(inputs[0], (1, 2), self.eps)
        return _scale_and_shift(context, y) if self.affine else y


def _scale_and_shift(context: BuildContext, x: Value) -> Value:
    return add(multiply(x, context.parameters["weight"]), context.parameters["bias"])


@dataclass(frozen=True)
class LocalResponseNorm(Layer):
    """`local_response_norm(size=5, alpha=1e-4, beta=0.75, k=1, divide=true)`: Krizhevsky et al. 2012, section 3.3.

    y = x / (k + alpha * s) ** beta, where s sums the squares of the `size` channels around each, divided by `size` (torch,
    Caffe) unless `divide=false` (the 2012 paper, TensorFlow, which also use k = 2 and k = 1). Of an even size one channel
    more lies before (torch).
    """

    keyword: ClassVar[str] = "local_response_norm"
    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0
    divide: bool = True

    def __post_init__(self) -> None:
        require_positive(size=self.size)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        image(self.keyword, inputs[0])
        return inputs[0]

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        (x,) = inputs
        channels = feature_shape(x.type.shape)[0]
        squares = pad(multiply(x, x), (0, 0, 0, self.size // 2), (0, 0, 0, (self.size - 1) // 2))
        neighbours = [strided_slice(squares, (0, 0, 0, i), (None, None, None, i + channels)) for i in range(self.size)]
        total = reduce(add, neighbours)
        base = add(multiply(total, self.alpha / self.size if self.divide else self.alpha), self.k)
        if self.beta == 0.75:
            root = sqrt(base)
            return divide(x, multiply(root, sqrt(root)))  # b^0.75 = sqrt(b) sqrt(sqrt(b)), far cheaper than a power
        return divide(x, power(base, self.beta))
