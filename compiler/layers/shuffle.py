"""Channels in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.ir import ShapeError, Value
from dlc.compiler.layers.base import BuildContext, FeatureShape, Layer
from dlc.compiler.layers.geometry import image, require_positive, show
from dlc.compiler.ops.shape import reshape, transpose


@dataclass(frozen=True)
class ChannelShuffle(Layer):
    """`channel_shuffle(groups)`: the channels of all groups interleaved, Zhang et al. 2018 (ShuffleNet), torch's ChannelShuffle.

    Channel c of group g, g * (C / groups) + c, comes to the place c * groups + g.
    """

    keyword: ClassVar[str] = "channel_shuffle"
    groups: int

    def __post_init__(self) -> None:
        require_positive(groups=self.groups)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        channels, _, _ = image(self.keyword, inputs[0])
        if channels % self.groups:
            raise ShapeError(f"{self.groups} groups do not divide the {channels} channels of {show(inputs[0])}")
        return inputs[0]

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        (x,) = inputs
        batch, height, width, channels = x.type.shape
        grouped = reshape(x, (batch, height, width, self.groups, int(channels) // self.groups))  # type: ignore[arg-type]  # not the batch
        return reshape(transpose(grouped, (0, 1, 2, 4, 3)), x.type.shape)
