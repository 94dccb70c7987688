"""Layers that move, cut or repeat elements without computing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dlc.compiler.ir import ShapeError, Value
from dlc.compiler.layers.base import ArgumentError, BuildContext, FeatureShape, Layer, feature_shape
from dlc.compiler.layers.geometry import Pair, count, image, pair, require_positive, show, sides
from dlc.compiler.ops.elementwise import add, multiply
from dlc.compiler.ops.indexing import static
from dlc.compiler.ops.shape import flatten, reshape, transpose
from dlc.compiler.ops.slicing import concat, pad, strided_slice
from dlc.compiler.ops.upsampling import upsample

Axis = Literal["channels", "height", "width"]
AXES: dict[str, int] = {"channels": 0, "height": 1, "width": 2}


@dataclass(frozen=True)
class Flatten(Layer):
    """`flatten`: [C, H, W] -> [C*H*W], channel by channel, row by row."""

    keyword: ClassVar[str] = "flatten"

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        return (count(inputs[0]),)

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return flatten(inputs[0]) if inputs[0].type.rank > 2 else inputs[0]


@dataclass(frozen=True)
class Reshape(Layer):
    """`reshape([16, 5, 5])`: the same elements, in the order channel, row, column, under another shape; one number may be -1."""

    keyword: ClassVar[str] = "reshape"
    to: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.to) not in (1, 3):
            raise ArgumentError("to", f"must be [features] or [channels, height, width], not {show(self.to)}")
        if any(n < 1 and n != -1 for n in self.to) or self.to.count(-1) > 1:
            raise ArgumentError("to", f"holds sizes of at least 1 and at most one -1, not {show(self.to)}")

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        have = count(inputs[0])
        known = count(tuple(n for n in self.to if n != -1))
        if have % known or (-1 not in self.to and have != known):
            raise ShapeError(f"cannot reshape {show(inputs[0])} with {have} elements to {show(self.to)}")
        return tuple(have // known if n == -1 else n for n in self.to)

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        (x,) = inputs
        to = self.shape(feature_shape(x.type.shape))
        if x.type.rank == 4:
            x = flatten(x)
        if len(to) == 1:
            return x
        return transpose(reshape(x, (x.type.shape[0], *to)), (0, 2, 3, 1))


@dataclass(frozen=True)
class Pad(Layer):
    """`pad(size=0, channels=0, value=0)`: a border of `value` around the image, and empty channels.

    `size` is a number, (height, width) or (top, left, bottom, right); `channels` a number added behind, or (before, behind):
    the parameter-free shortcut of ResNet (He et al. 2015, option A).
    """

    keyword: ClassVar[str] = "pad"
    size: int | tuple[int, int] | tuple[int, int, int, int] = 0
    channels: int | tuple[int, int] = 0
    value: float = 0.0

    def __post_init__(self) -> None:
        if min((self.size,) if isinstance(self.size, int) else self.size) < 0:
            raise ArgumentError("size", f"must not be negative, not {self.size}; crop cuts borders off")
        if min(self.around_channels) < 0:
            raise ArgumentError("channels", f"must not be negative, not {self.channels}; slice takes a part")

    @property
    def around_channels(self) -> tuple[int, int]:
        """Channels added before and behind."""
        return (0, self.channels) if isinstance(self.channels, int) else self.channels

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        channels, height, width = image(self.keyword, inputs[0])
        top, left, bottom, right = sides(self.size, (height, width), 1)
        return channels + sum(self.around_channels), height + top + bottom, width + left + right

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        top, left, bottom, right = sides(self.size, (0, 0), 1)
        first, last = self.around_channels
        return pad(inputs[0], (0, top, left, first), (0, bottom, right, last), self.value)


@dataclass(frozen=True)
class Crop(Layer):
    """`crop(size, at=center)`: a part of the image of `size` (height, width), from the middle (rounded up-left) or the top left."""

    keyword: ClassVar[str] = "crop"
    size: Pair
    at: Literal["center", "top_left"] = "center"

    def __post_init__(self) -> None:
        require_positive(size=self.size)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        channels, height, width = image(self.keyword, inputs[0])
        h, w = pair(self.size)
        if h > height or w > width:
            raise ShapeError(f"cannot crop {h}x{w} from {height}x{width}")
        return channels, h, w

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        _, height, width = image(self.keyword, feature_shape(inputs[0].type.shape))
        h, w = pair(self.size)
        top, left = ((height - h) // 2, (width - w) // 2) if self.at == "center" else (0, 0)
        return strided_slice(inputs[0], (0, top, left, 0), (None, top + h, left + w, None))


@dataclass(frozen=True)
class Slice(Layer):
    """`slice(start, stop, axis=channels, step=1)`: elements `start` to `stop` (excluded; negative counts from the end)."""

    keyword: ClassVar[str] = "slice"
    start: int
    stop: int
    axis: Axis = "channels"
    step: int = 1

    def __post_init__(self) -> None:
        require_positive(step=self.step)

    def bounds(self, size: int) -> tuple[int, int]:
        """Start and stop as counted from the beginning of an axis of `size`."""
        start = self.start + size if self.start < 0 else self.start
        stop = self.stop + size if self.stop < 0 else self.stop
        return start, stop

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        axis = AXES[self.axis]
        if axis >= len(inputs[0]):
            raise ShapeError(f"cannot slice the {self.axis} of {show(inputs[0])}")
        size = inputs[0][axis]
        start, stop = self.bounds(size)
        if not 0 <= start < stop <= size:
            raise ShapeError(
                f"slice {self.start} to {self.stop} does not lie in the {size} of the {self.axis} of {show(inputs[0])}"
            )
        return (*inputs[0][:axis], -(-(stop - start) // self.step), *inputs[0][axis + 1 :])

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        (x,) = inputs
        axis = inner_axis(self.axis, x)
        start: list[int] = [0] * x.type.rank
        stop: list[int | None] = [None] * x.type.rank
        step: list[int] = [1] * x.type.rank
        start[axis], stop[axis] = self.bounds(_size(x, axis))
        step[axis] = self.step
        return strided_slice(x, start, stop, step)


@dataclass(frozen=True)
class Concat(Layer):
    """`concat(a, b, ..., axis=channels)`: the inputs one after the other; all other sizes agree."""

    keyword: ClassVar[str] = "concat"
    arity: ClassVar[tuple[int, int | None]] = (1, None)
    axis: Axis = "channels"

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        axis = AXES[self.axis]
        first = inputs[0]
        if axis >= len(first):
            raise ShapeError(f"cannot concatenate {show(first)} along the {self.axis}")
        for other in inputs[1:]:
            if len(other) != len(first) or any(
                a != b for i, (a, b) in enumerate(zip(first, other, strict=True)) if i != axis
            ):
                raise ShapeError(f"cannot concatenate {show(first)} and {show(other)} along the {self.axis}")
        return (*first[:axis], sum(shape[axis] for shape in inputs), *first[axis + 1 :])

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return concat(inputs, inner_axis(self.axis, inputs[0])) if len(inputs) > 1 else inputs[0]


@dataclass(frozen=True)
class Upsample(Layer):
    """`upsample(factor=2, mode=nearest)`: a larger image. [C, H, W] -> [C, factor*H, factor*W].

    `bilinear` is torch's with align_corners=false: pixel centres at half coordinates, the border repeated.
    """

    keyword: ClassVar[str] = "upsample"
    factor: Pair = 2
    mode: Literal["nearest", "bilinear"] = "nearest"

    def __post_init__(self) -> None:
        require_positive(factor=self.factor)

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        channels, height, width = image(self.keyword, inputs[0])
        fh, fw = pair(self.factor)
        return channels, height * fh, width * fw

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        fh, fw = pair(self.factor)
        if self.mode == "nearest":
            return upsample(inputs[0], (fh, fw))
        return _interpolate(_interpolate(inputs[0], 1, fh), 2, fw)


def inner_axis(axis: str, x: Value) -> int:
    """The axis of a value that is channels last."""
    return x.type.rank - 1 if axis == "channels" else AXES[axis]


def _interpolate(x: Value, axis: int, factor: int) -> Value:
    """Linear interpolation along one axis, as `factor` phases that are woven together."""
    if factor == 1:
        return x
    size = _size(x, axis)
    bordered = concat([_part(x, axis, 0, 1), x, _part(x, axis, size - 1, size)], axis)
    phases = []
    for phase in range(factor):
        position = (phase + 0.5) / factor + 0.5  # in `bordered`, of the phase's first sample
        left = int(position)
        right_share = position - left
        near = multiply(_part(bordered, axis, left, left + size), 1.0 - right_share)
        far = multiply(_part(bordered, axis, left + 1, left + 1 + size), right_share) if right_share else None
        phases.append(add(near, far) if far is not None else near)
    shape = list(x.type.shape)
    woven = concat([reshape(p, (*shape[: axis + 1], 1, *shape[axis + 1 :])) for p in phases], axis + 1)
    return reshape(woven, (*shape[:axis], size * factor, *shape[axis + 1 :]))


def _size(x: Value, axis: int) -> int:
    """The size of an axis that is not the batch."""
    return static((x.type.shape[axis],))[0]


def _part(x: Value, axis: int, start: int, stop: int) -> Value:
    starts: list[int] = [0] * x.type.rank
    stops: list[int | None] = [None] * x.type.rank
    starts[axis], stops[axis] = start, stop
    return strided_slice(x, starts, stops)
