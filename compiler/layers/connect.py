"""Convolution with a connection table, as in layer C3 of LeNet-5."""

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
from dlc.compiler.ops.base import constant
from dlc.compiler.ops.convolution import Conv2d
from dlc.compiler.ops.elementwise import add, multiply
from dlc.compiler.ops.reduction import reduce_sum
from dlc.compiler.ops.shape import reshape
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class ConvConnect(Layer):
    """`conv_connect(table, kernel, stride=1, pad=0, bias=true)`: each output map sees only the input maps its row names.

    LeCun et al. 1998, section II.B and table I. `table` has one row of input map numbers (from 0) for every output map.
    Only the connected weights exist: weight [connections, kernel height, kernel width], row after row; bias [rows].
    Fan in is that of the average output map.
    """

    keyword: ClassVar[str] = "conv_connect"
    table: tuple[tuple[int, ...], ...]
    kernel: Pair
    stride: Pair = 1
    pad: Padding = 0
    bias: bool = True

    def __post_init__(self) -> None:
        require_positive(kernel=self.kernel, stride=self.stride)
        require_padding(self.pad, self.kernel)
        if not self.table:
            raise ArgumentError("table", "needs a row of input maps for every output map, it is empty")
        for number, row in enumerate(self.table):
            if not row:
                raise ArgumentError("table", f"row {number} names no input map")
            if min(row) < 0:
                raise ArgumentError("table", f"row {number} names input map {min(row)}; they count from 0")
            if len(set(row)) != len(row):
                raise ArgumentError("table", f"row {number} names an input map twice: {list(row)}")

    @property
    def connections(self) -> int:
        """How many pairs of an output and an input map are connected."""
        return sum(len(row) for row in self.table)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        channels, height, width = image(self.keyword, inputs[0])
        for number, row in enumerate(self.table):
            if max(row) >= channels:
                raise ShapeError(
                    f"row {number} of the table names input map {max(row)}, {show(inputs[0])} has {channels}"
                )
        padding = sides(self.pad, (height, width), self.kernel, self.stride)
        return len(self.table), *window_output((height, width), self.kernel, self.stride, padding)

    def parameters(self, *inputs: FeatureShape) -> Mapping[str, ParameterSpec]:
        kh, kw = pair(self.kernel)
        fan_in = max(1, round(self.connections * kh * kw / len(self.table)))
        fan_out = max(1, round(self.connections * kh * kw / inputs[0][0]))
        weight = ParameterSpec((self.connections, kh, kw), None, fan_in, fan_out)
        if not self.bias:
            return {"weight": weight}
        return {"weight": weight, "bias": ParameterSpec((len(self.table),), Zeros(), fan_in, fan_out, role="bias")}

    def macs(self, *inputs: FeatureShape) -> int:
        _, height, width = self.shape(*inputs)
        kh, kw = pair(self.kernel)
        return height * width * self.connections * kh * kw

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        (x,) = inputs
        channels, height, width = image(self.keyword, feature_shape(x.type.shape))
        kh, kw = pair(self.kernel)
        padding = sides(self.pad, (height, width), self.kernel, self.stride)
        places = self._places(channels)
        # [O*I, connections, 1] * [connections, kh*kw], summed over the connections: each weight goes to its place
        kernels = reshape(context.parameters["weight"], (self.connections, kh * kw))
        dense = reduce_sum(multiply(constant(places[:, :, None], key="connections"), kernels), (1,))
        weight = reshape(dense, (len(self.table), channels, kh, kw))
        y = apply(Conv2d(len(self.table), (kh, kw), pair(self.stride), padding, (1, 1), 1), x, weight)
        return add(y, context.parameters["bias"]) if self.bias else y

    def _places(self, channels: int) -> np.ndarray:
        """[rows * channels, connections]: 1 where a connection's weight belongs in the dense weight."""
        places = np.zeros((len(self.table) * channels, self.connections), np.float32)
        pairs = [(number, channel) for number, row in enumerate(self.table) for channel in row]
        for connection, (number, channel) in enumerate(pairs):
            places[number * channels + channel, connection] = 1.0
        return places
