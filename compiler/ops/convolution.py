"""Convolution of channels-last images and its two gradients.

Weights are canonical, [O, I/groups, kh, kw], or packed by blocks of output channels (`block` > 0),
[ceil(O/block), kh, kw, I/groups, block] with the missing output channels zero. A packed weight gives a packed gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlc.compiler.ir import N, Op, Sample, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.base import float_type, widened
from dlc.compiler.ops.contraction import convolution, packed_convolution_weight, padded_image, turned_weight
from dlc.compiler.ops.indexing import show, static
from dlc.compiler.ops.lowering import Lowering, Tensor
from dlc.runtime.deferred import np

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


@dataclass(frozen=True)
class Convolution(Op):
    """What the convolution ops share: `channels` counts outputs, `padding` is (top, left, bottom, right).

    `bits` says how many significant bits the factors have at most: whoever rounds them says so, and targets that multiply
    such numbers faster may.
    """

    channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    block: int = 0
    bits: int = 24

    def output_size(self, height: int, width: int) -> Pair:
        """Height and width of the result for an image of this size. Raises ShapeError where the kernel does not fit."""
        top, left, bottom, right = self.padding
        sizes = []
        for size, k, s, d in zip(
            (height + top + bottom, width + left + right), self.kernel, self.stride, self.dilation, strict=True
        ):
            reach = (k - 1) * d + 1
            if reach > size:
                raise ShapeError(
                    f"a kernel of {self.kernel[0]}x{self.kernel[1]} does not fit in an image of {height}x{width}"
                )
            sizes.append((size - reach) // s + 1)
        return sizes[0], sizes[1]

    def weight_shape(self, in_channels: int) -> tuple[int, ...]:
        """The weight's shape, packed where `block` says so. Raises ShapeError where groups do not divide the channels."""
        if self.groups < 1 or in_channels % self.groups or self.channels % self.groups:
            raise ShapeError(f"{self.groups} groups do not divide {in_channels} channels into {self.channels}")
        if self.block:
            return (-(-self.channels // self.block), *self.kernel, in_channels // self.groups, self.block)
        return (self.channels, in_channels // self.groups, *self.kernel)

    def attributes(self) -> dict[str, Any]:
        """The fields that all three ops have, to make one op out of another."""
        names = ("channels", "kernel", "stride", "padding", "dilation", "groups", "block", "bits")
        return {n: getattr(self, n) for n in names}

    def _canonical(self, weight: np.ndarray) -> np.ndarray:
        """[O, I/groups, kh, kw] of a weight in either form."""
        if not self.block:
            return weight
        blocks, height, width, inputs, block = weight.shape
        return weight.transpose(0, 4, 3, 1, 2).reshape(blocks * block, inputs, height, width)[: self.channels]

    def _packed(self, weight: np.ndarray) -> np.ndarray:
        """A canonical weight in this op's form."""
        if not self.block:
            return weight
        channels, inputs, height, width = weight.shape
        missing = -channels % self.block
        weight = np.pad(weight, [(0, missing), (0, 0), (0, 0), (0, 0)])
        weight = weight.reshape(-1, self.block, inputs, height, width)
        return np.ascontiguousarray(weight.transpose(0, 3, 4, 2, 1))

    def _padded(self, x: np.ndarray) -> np.ndarray:
        top, left, bottom, right = self.padding
        return np.pad(x, [(0, 0), (top, bottom), (left, right), (0, 0)])

    def _window(self, row: int, column: int, size: Pair) -> tuple[slice, slice, slice]:
        """Where kernel element (row, column) reads a padded image, for every element of a result of `size`."""
        at = (row * self.dilation[0], column * self.dilation[1])
        rows, columns = (slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(at, size, self.stride, strict=True))
        return slice(None), rows, columns


def _image(type_: TensorType, what: str) -> tuple[int, int, int]:
    if type_.rank != 4:
        raise ShapeError(f"{what} is {show(type_.shape)}; expected [N, height, width, channels]")
    height, width, channels = static(type_.shape[1:])
    return height, width, channels


def _size(x: Tensor) -> Pair:
    """Height and width of an image inside a kernel."""
    return int(x.shape[1]), int(x.shape[2])


def _expect(what: str, type_: TensorType, shape: Sequence[object]) -> None:
    if type_.shape[-len(shape) :] != tuple(shape) or type_.rank > len(shape) + (len(shape) == 3):
        raise ShapeError(f"{what} is {show(type_.shape)}; expected [{', '.join(map(str, shape))}]")


@dataclass(frozen=True)
class Conv2d(Convolution):
    """y[n, h, w, o] = Σ x[n, h·sh + i·dh - top, w·sw + j·dw - left, c] · weight[o, c, i, j] (cross-correlation)."""

    def infer(self, *operands: TensorType) -> TensorType:
        x, weight = operands
        height, width, channels = _image(x, "the image")
        _expect("the weight", weight, self.weight_shape(channels))
        return x.sums(x.shape[0], *self.output_size(height, width), self.channels)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        x, weight = map(widened, operands)
        size = self.output_size(x.shape[1], x.shape[2])
        image = self._padded(x).reshape(x.shape[0], *self._padded(x).shape[1:3], self.groups, -1)
        kernel = self._canonical(weight).reshape(self.groups, -1, x.shape[3] // self.groups, *self.kernel)
        result = np.zeros((x.shape[0], *size, self.groups, self.channels // self.groups), x.dtype)
        for i, j in np.ndindex(*self.kernel):
            result += np.einsum("nhwgc,goc->nhwgo", image[self._window(i, j, size)], kernel[..., i, j], optimize=True)
        return result.reshape(x.shape[0], *size, self.channels)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        x, weight = result.operands
        _, height, width, channels = x.type.shape
        size = static((height, width, channels))
        by_input = Conv2dInputGradient(**self.attributes(), input_size=(size[0], size[1], size[2]))
        by_weight = Conv2dWeightGradient(**self.attributes(), in_channels=size[2])
        return apply(by_input, upstream, weight), apply(by_weight, x, upstream)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        x, weight = operands
        size = self.output_size(*_size(x))
        if not self.block and (block := t.block(self.channels // self.groups)) > 1:
            weight = packed_convolution_weight(t, weight, self.channels, block)
        return convolution(
            t,
            x,
            weight,
            channels=self.channels,
            size=size,
            before=self.padding[:2],
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
        )

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for op, (height, width, channels) in _cases():
            yield Sample(op, (float_type(N, height, width, channels), float_type(*op.weight_shape(channels))))


@dataclass(frozen=True)
class Conv2dInputGradient(Convolution):
    """The gradient of Conv2d by its image, from that by its result: [N, oh, ow, O] and the weight to [N, *input_size].

    It is also the transposed convolution of the field; `input_size` is (height, width, channels).
    """

    input_size: tuple[int, int, int] = field(kw_only=True)

    def infer(self, *operands: TensorType) -> TensorType:
        upstream, weight = operands
        height, width, channels = self.input_size
        _image(upstream, "the gradient")
        _expect("the gradient", upstream, (*self.output_size(height, width), self.channels))
        _expect("the weight", weight, self.weight_shape(channels))
        return upstream.sums(upstream.shape[0], *self.input_size)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        upstream, weight = map(widened, operands)
        height, width, channels = self.input_size
        top, left, bottom, right = self.padding
        batch, size = upstream.shape[0], self.output_size(height, width)
        upstream = upstream.reshape(batch, *size, self.groups, -1)
        kernel = self._canonical(weight).reshape(self.groups, -1, channels // self.groups, *self.kernel)
        shape = (batch, top + height + bottom, left + width + right, self.groups, channels // self.groups)
        result = np.zeros(shape, upstream.dtype)
        for i, j in np.ndindex(*self.kernel):
            result[self._window(i, j, size)] += np.einsum(
                "nhwgo,goc->nhwgc", upstream, kernel[..., i, j], optimize=True
            )
        return result[:, top : top + height, left : left + width].reshape(batch, *self.input_size)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        dy, weight = result.operands
        by_weight = Conv2dWeightGradient(**self.attributes(), in_channels=self.input_size[2])
        return apply(Conv2d(**self.attributes()), upstream, weight), apply(by_weight, upstream, dy)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        upstream, weight = operands
        if self.stride == (1, 1):
            return self._by_dense_windows(t, upstream, weight)
        if self.dilation != (1, 1):
            return self._by_dense_windows(t, self._spread(t, upstream), weight)
        return self._by_phases(t, upstream, weight)

    def _by_dense_windows(self, t: Lowering, upstream: Tensor, weight: Tensor) -> Tensor:
        """The convolution of the gradient with the kernel turned by half a turn."""
        height, width, channels = self.input_size
        before = tuple((k - 1) * d - p for k, d, p in zip(self.kernel, self.dilation, self.padding, strict=False))
        return convolution(
            t,
            upstream,
            self._turned(t, weight, (0, 0), (1, 1)),
            channels=channels,
            size=(height, width),
            before=(before[0], before[1]),
            dilation=self.dilation,
            groups=self.groups,
        )

    def _spread(self, t: Lowering, upstream: Tensor) -> Tensor:
        """The gradient with stride - 1 zeros between its rows and columns."""
        rows, columns = self.output_size(*self.input_size[:2])
        down, across = self.stride

        def element(n: Any, y: Any, x: Any, o: Any) -> Any:
            hit = t.all_of(t.maths.equal(y % down, 0), t.maths.equal(x % across, 0))
            return t.guarded(hit, upstream(n, y // down, x // across, o), 0.0)

        shape = (upstream.shape[0], (rows - 1) * down + 1, (columns - 1) * across + 1, self.channels)
        return t.compute(shape, element, "spread", {"dlc.part": "padding"})

    def _by_phases(self, t: Lowering, upstream: Tensor, weight: Tensor) -> Tensor:
        """One convolution for each residue of row and column by the stride, merged at the end.

        With h' = h + top = s·q + r, kernel rows r, r + s, … reach h: dx[h] = Σ_m dy[q - m] · w[r + s·m].
        """
        height, width, channels = self.input_size
        down, across = self.stride
        start = (self.padding[0] // down, self.padding[1] // across)
        size = (
            (height - 1 + self.padding[0]) // down - start[0] + 1,
            (width - 1 + self.padding[1]) // across - start[1] + 1,
        )
        phases: dict[Pair, Tensor] = {}
        for row in range(min(down, self.kernel[0])):
            for column in range(min(across, self.kernel[1])):
                turned = self._turned(t, weight, (row, column), self.stride)
                _, rows, columns, _, _ = turned.shape
                phases[row, column] = convolution(
                    t,
                    upstream,
                    turned,
                    channels=channels,
                    size=size,
                    before=(int(rows) - 1 - start[0], int(columns) - 1 - start[1]),
                    groups=self.groups,
                    anchor="",
                )

        def element(n: Any, y: Any, x: Any, c: Any) -> Any:
            y, x = y + self.padding[0], x + self.padding[1]
            at = (n, y // down - start[0], x // across - start[1], c)
            value: Any = 0.0
            for (row, column), phase in phases.items():
                hit = t.all_of(t.maths.equal(y % down, row), t.maths.equal(x % across, column))
                value = t.guarded(hit, phase(*at), value)
            return value

        shape = (upstream.shape[0], height, width, channels)
        return t.compute(shape, element, "merged", {"dlc.anchor": "conv2d_phases", "dlc.part": "merge"})

    def _turned(self, t: Lowering, weight: Tensor, first: Pair, step: Pair) -> Tensor:
        channels = self.input_size[2]
        block = self.block

        def read(o: Any, c: Any, i: Any, j: Any) -> Any:
            return weight(o // block, i, j, c, o % block) if block else weight(o, c, i, j)

        return turned_weight(
            t,
            read,
            channels=channels,
            upstream_channels=self.channels,
            groups=self.groups,
            kernel=self.kernel,
            first=first,
            step=step,
            block=t.block(channels // self.groups),
        )

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for op, (height, width, channels) in _cases():
            own = cls(**op.attributes(), input_size=(height, width, channels))
            upstream = float_type(N, *op.output_size(height, width), op.channels)
            yield Sample(own, (upstream, float_type(*op.weight_shape(channels))))


@dataclass(frozen=True)
class Conv2dWeightGradient(Convolution):
    """The gradient of Conv2d by its weight, summed over the batch: the image and the gradient by the result."""

    in_channels: int = field(kw_only=True)

    def infer(self, *operands: TensorType) -> TensorType:
        x, upstream = operands
        height, width, channels = _image(x, "the image")
        _image(upstream, "the gradient")
        _expect("the gradient", upstream, (*self.output_size(height, width), self.channels))
        if channels != self.in_channels or x.shape[0] != upstream.shape[0]:
            raise ShapeError(f"the image is {show(x.shape)}, the gradient {show(upstream.shape)}")
        return x.sums(*self.weight_shape(channels))

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        x, upstream = map(widened, operands)
        size = self.output_size(x.shape[1], x.shape[2])
        image = self._padded(x)
        image = image.reshape(*image.shape[:3], self.groups, -1)
        upstream = upstream.reshape(*upstream.shape[:3], self.groups, -1)
        kernel = np.zeros(
            (self.groups, self.channels // self.groups, self.in_channels // self.groups, *self.kernel), x.dtype
        )
        for i, j in np.ndindex(*self.kernel):
            kernel[..., i, j] = np.einsum("nhwgc,nhwgo->goc", image[self._window(i, j, size)], upstream, optimize=True)
        return self._packed(kernel.reshape(self.channels, -1, *self.kernel))

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        x, dy = result.operands
        height, width, channels = static(x.type.shape[1:])
        by_input = Conv2dInputGradient(**self.attributes(), input_size=(height, width, channels))
        return apply(by_input, dy, upstream), apply(Conv2d(**self.attributes()), x, upstream)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        x, upstream = operands
        block = self.block or t.block(self.channels // self.groups)
        rows, columns = self.output_size(*_size(x))
        blocks, inputs = -(-self.channels // block), self.in_channels // self.groups
        reach = (
            (rows - 1) * self.stride[0] + (self.kernel[0] - 1) * self.dilation[0] + 1,
            (columns - 1) * self.stride[1] + (self.kernel[1] - 1) * self.dilation[1] + 1,
        )
        image = padded_image(t, x, self.padding[:2], reach)
        upstream = padded_image(t, upstream, (0, 0), (rows, columns), blocks * block)
        n, y, column = (t.reduce_axis(e, name) for e, name in ((x.shape[0], "n"), (rows, "y"), (columns, "x")))

        def element(o: Any, i: Any, j: Any, c: Any, lane: Any) -> Any:
            own = o * block + lane
            group = own // (self.channels // self.groups)
            if blocks * block > self.channels and self.groups > 1:
                group = t.maths.minimum(group, self.groups - 1)
            channel = c if self.groups == 1 else group * inputs + c
            row = y * self.stride[0] + i * self.dilation[0]
            pixel = image(n, row, column * self.stride[1] + j * self.dilation[1], channel)
            return t.sum(pixel * upstream(n, y, column, own), [n, y, column])

        attributes = {"dlc.anchor": "conv2d_weight_gradient", "dlc.block": block}
        result = t.compute((blocks, *self.kernel, inputs, block), element, "weight_gradient", attributes)
        if self.block:
            return result
        shape = (self.channels, inputs, *self.kernel)
        return t.compute(
            shape, lambda o, c, i, j: result(o // block, i, j, c, o % block), "canonical", {"dlc.part": "crop"}
        )

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for op, (height, width, channels) in _cases():
            own = cls(**op.attributes(), in_channels=channels)
            upstream = float_type(N, *op.output_size(height, width), op.channels)
            yield Sample(own, (float_type(N, height, width, channels), upstream))


def _cases() -> Iterable[tuple[Conv2d, tuple[int, int, int]]]:
    """Convolutions with the image sizes that they are tested on."""
    yield Conv2d(6, (3, 3), padding=(1, 1, 1, 1)), (5, 7, 3)
    yield Conv2d(6, (5, 5)), (7, 6, 1)
    yield Conv2d(5, (3, 3), (2, 2), (1, 1, 1, 1), block=4), (7, 7, 3)
    yield Conv2d(16, (1, 1), block=16), (3, 3, 5)
    yield Conv2d(4, (1, 1), (2, 2)), (6, 5, 3)
    yield Conv2d(4, (1, 3), (2, 1), (0, 1, 1, 0), (1, 2)), (4, 7, 2)
    yield Conv2d(6, (3, 2), (1, 2), (2, 0, 1, 1), groups=2), (5, 6, 4)
    yield Conv2d(4, (3, 3), (2, 2), (1, 1, 1, 1), (2, 2), 4), (8, 8, 4)
    yield Conv2d(8, (3, 3), padding=(1, 1, 1, 1), groups=2, block=4), (4, 4, 6)


def pair(value: int | Sequence[int]) -> Pair:
    """(n, n) of a number; a pair stays."""
    if isinstance(value, int):
        return value, value
    first, second = value
    return first, second


def sides(value: int | Sequence[int]) -> Sides:
    """(top, left, bottom, right) of a number, a pair (height, width) or four sides."""
    if isinstance(value, int):
        return value, value, value, value
    top, left, bottom, right = value if len(value) == 4 else (*value, *value)
    return top, left, bottom, right


def conv2d(
    x: Value,
    weight: Value,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Value:
    """The convolution of [N, H, W, C] with a canonical weight [O, C/groups, kh, kw]; the bias is a separate add."""
    channels, _, height, width = static(weight.type.shape)
    op = Conv2d(channels, (height, width), pair(stride), sides(padding), pair(dilation), groups)
    return apply(op, x, weight)


def conv2d_input_gradient(
    upstream: Value,
    weight: Value,
    input_size: tuple[int, int, int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Value:
    """The gradient of `conv2d` by its image of `input_size` (height, width, channels): the transposed convolution."""
    channels, _, height, width = static(weight.type.shape)
    attributes = (channels, (height, width), pair(stride), sides(padding), pair(dilation), groups)
    return apply(Conv2dInputGradient(*attributes, input_size=input_size), upstream, weight)


def conv2d_weight_gradient(
    x: Value,
    upstream: Value,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Value:
    """The gradient of `conv2d` by its canonical weight."""
    channels, in_channels = static((upstream.type.shape[3], x.type.shape[3]))
    attributes = (channels, pair(kernel), pair(stride), sides(padding), pair(dilation), groups)
    return apply(Conv2dWeightGradient(*attributes, in_channels=in_channels), x, upstream)
