"""Pooling of channels-last images over windows, and the gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlc.compiler.ir import DType, N, Op, Sample, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.base import float_type
from dlc.compiler.ops.convolution import Pair, Sides, pair, sides
from dlc.compiler.ops.indexing import show, static
from dlc.compiler.ops.lowering import Lowering, Tensor
from dlc.compiler.ops.windows import (
    Span,
    Windows,
    extremum,
    extremum_gradient,
    first_place,
    mean,
    mean_gradient,
    placed_gradient,
)
from dlc.runtime.deferred import np

MOST_PLACES = 255
"""Elements that a window may have for a byte to tell them apart, and from none."""


@dataclass(frozen=True)
class Pool(Op):
    """What the pooling ops share; `padding` is (top, left, bottom, right).

    `ceil` rounds the result's size up: a last window may hang over the far side, but starts no further than the image
    and its near padding reach (as PyTorch). `count_padding` lets averages count padded elements; what hangs over beyond
    the padding never counts.
    """

    kernel: Pair
    stride: Pair
    padding: Sides = (0, 0, 0, 0)
    ceil: bool = False
    count_padding: bool = True

    def output_size(self, height: int, width: int) -> Pair:
        """Height and width of the result. Raises ShapeError where the window does not fit or lies in the padding."""
        top, left, bottom, right = self.padding
        sizes = []
        geometry = zip((height, width), (top, left), (bottom, right), self.kernel, self.stride, strict=True)
        for size, near, far, k, s in geometry:
            room = near + size + far - k
            if room < 0:
                raise ShapeError(
                    f"a window of {self.kernel[0]}x{self.kernel[1]} does not fit in an image of {height}x{width}"
                )
            if max(near, far) >= k:
                raise ShapeError(f"padding {max(near, far)} leaves a window of {self.kernel[0]}x{self.kernel[1]} empty")
            windows = -(-room // s) + 1 if self.ceil else room // s + 1
            if self.ceil and (windows - 1) * s >= size + near:
                windows -= 1
            sizes.append(windows)
        return sizes[0], sizes[1]

    def attributes(self) -> dict[str, Any]:
        """The fields that pools and their gradients have, to make one op out of another."""
        return {n: getattr(self, n) for n in ("kernel", "stride", "padding", "ceil", "count_padding")}

    def _windows_of(self, height: int, width: int) -> Windows:
        """The windows as kernels see them, on an image of this size."""
        windows = self.output_size(height, width)
        top, left, bottom, right = self.padding
        return Windows(
            Span(height, windows[0], self.kernel[0], self.stride[0], top, bottom),
            Span(width, windows[1], self.kernel[1], self.stride[1], left, right),
            self.count_padding,
        )

    def _result(self, x: TensorType) -> TensorType:
        if x.rank != 4:
            raise ShapeError(f"cannot pool {show(x.shape)}; expected [N, height, width, channels]")
        height, width, channels = static(x.shape[1:])
        return x.with_shape(x.shape[0], *self.output_size(height, width), channels)

    def _windows(self, height: int, width: int) -> Iterator[tuple[tuple[int, int], tuple[slice, slice], int]]:
        """For each result element: its place, the part of the image that its window covers, and the average's divisor."""
        top, left, bottom, right = self.padding
        for place in np.ndindex(*self.output_size(height, width)):
            spans, divisor = [], 1
            geometry = zip(place, self.kernel, self.stride, (top, left), (bottom, right), (height, width), strict=True)
            for at, k, s, near, far, size in geometry:
                start = at * s - near
                end = min(start + k, size + far)
                inside = slice(max(start, 0), min(end, size))
                divisor *= end - start if self.count_padding else inside.stop - inside.start
                spans.append(inside)
            yield (place[0], place[1]), (spans[0], spans[1]), divisor


@dataclass(frozen=True)
class MaxPool(Pool):
    """The maximum of each window; padding never wins."""

    def infer(self, *operands: TensorType) -> TensorType:
        return self._result(operands[0])

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        result = np.empty((x.shape[0], *self.output_size(*x.shape[1:3]), x.shape[3]), x.dtype)
        for (row, column), (rows, columns), _ in self._windows(*x.shape[1:3]):
            result[:, row, column] = x[:, rows, columns].max((1, 2))
        return result

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        (x,) = result.operands
        if self.kernel[0] * self.kernel[1] > MOST_PLACES:
            return (apply(MaxPoolGradient(**self.attributes()), x, upstream),)
        height, width = static(x.type.shape[1:3])
        if self.kernel == (1, 1):  # every stride-th pixel
            return (apply(AvgPoolGradient(**self.attributes(), input_size=(height, width)), upstream),)
        places = apply(
            MaxPoolPlaces(**self.attributes()), x, result
        )  # a byte each: x need not be kept for the gradient
        return (apply(PlacedGradient(**self.attributes(), input_size=(height, width)), places, upstream),)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (x,) = operands
        return extremum(t, self._windows_of(int(x.shape[1]), int(x.shape[2])), x, largest=True)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [Sample(cls(**a), (float_type(N, *size),), distinct=True) for a, size in _cases()]


@dataclass(frozen=True)
class MinPool(Pool):
    """The minimum of each window; padding never wins."""

    def infer(self, *operands: TensorType) -> TensorType:
        return self._result(operands[0])

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return -MaxPool(**self.attributes()).reference(-operands[0])

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (apply(MinPoolGradient(**self.attributes()), result.operands[0], upstream),)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (x,) = operands
        return extremum(t, self._windows_of(int(x.shape[1]), int(x.shape[2])), x, largest=False)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [Sample(cls(**a), (float_type(N, *size),), distinct=True) for a, size in _cases()]


@dataclass(frozen=True)
class AvgPool(Pool):
    """The mean of each window."""

    def infer(self, *operands: TensorType) -> TensorType:
        return self._result(operands[0])

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        result = np.empty((x.shape[0], *self.output_size(*x.shape[1:3]), x.shape[3]), x.dtype)
        for (row, column), (rows, columns), divisor in self._windows(*x.shape[1:3]):
            result[:, row, column] = x[:, rows, columns].sum((1, 2)) / divisor
        return result

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        height, width = static(result.operands[0].type.shape[1:3])
        return (apply(AvgPoolGradient(**self.attributes(), input_size=(height, width)), upstream),)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (x,) = operands
        return mean(t, self._windows_of(int(x.shape[1]), int(x.shape[2])), x)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [Sample(cls(**a), (float_type(N, *size),)) for a, size in _cases()]


@dataclass(frozen=True)
class MaxPoolGradient(Pool):
    """The gradient of MaxPool, from its operand and the gradient by its result: to each window's first maximum.

    First means first in row-major order (as PyTorch); windows that share an element add up there.
    """

    def infer(self, *operands: TensorType) -> TensorType:
        x, upstream = operands
        if self._result(x) != upstream:
            raise ShapeError(f"the gradient is {show(upstream.shape)}; expected {show(self._result(x).shape)}")
        return x

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        x, upstream = operands
        result = np.zeros(x.shape, upstream.dtype)
        samples, channels = np.ogrid[: x.shape[0], : x.shape[3]]
        for (row, column), (rows, columns), _ in self._windows(*x.shape[1:3]):
            window = x[:, rows, columns]
            first = window.reshape(x.shape[0], -1, x.shape[3]).argmax(1)
            i, j = np.divmod(first, window.shape[2])
            result[samples, rows.start + i, columns.start + j, channels] += upstream[:, row, column]
        return result

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        x, upstream = operands
        return extremum_gradient(t, self._windows_of(int(x.shape[1]), int(x.shape[2])), x, upstream, largest=True)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return _gradient_samples(cls)


@dataclass(frozen=True)
class MaxPoolPlaces(Pool):
    """Which element of its window each maximum is, from MaxPool's operand and its result.

    The first in row-major order (as PyTorch), counted from the window's own corner, be it in the padding; the number of
    elements where all are NaN.
    """

    def infer(self, *operands: TensorType) -> TensorType:
        x, result = operands
        if self._result(x) != result or self.kernel[0] * self.kernel[1] > MOST_PLACES:
            raise ShapeError(f"no places of {show(result.shape)} in {show(x.shape)}")
        return result.with_dtype(DType.UINT8)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        x, best = operands
        places = np.empty(best.shape, np.uint8)
        for (row, column), (rows, columns), _ in self._windows(*x.shape[1:3]):
            first = (x[:, rows, columns] == best[:, row, column, None, None]).reshape(x.shape[0], -1, x.shape[3])
            i, j = np.divmod(first.argmax(1), columns.stop - columns.start)
            i += rows.start - row * self.stride[0] + self.padding[0]
            j += columns.start - column * self.stride[1] + self.padding[1]
            places[:, row, column] = np.where(first.any(1), i * self.kernel[1] + j, self.kernel[0] * self.kernel[1])
        return places

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        x, best = operands
        return first_place(t, self._windows_of(int(x.shape[1]), int(x.shape[2])), x, best)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return _gradient_samples(cls)


@dataclass(frozen=True)
class PlacedGradient(Pool):
    """The gradient of MaxPool for an image of `input_size`, from its places and the gradient by its result.

    Windows that share an element add up there.
    """

    input_size: Pair = field(kw_only=True)

    def infer(self, *operands: TensorType) -> TensorType:
        places, upstream = operands
        if places != upstream.with_dtype(DType.UINT8) or upstream.shape[1:3] != self.output_size(*self.input_size):
            raise ShapeError(f"the gradient is {show(upstream.shape)}, the places are {show(places.shape)}")
        return upstream.with_shape(upstream.shape[0], *self.input_size, upstream.shape[3])

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        places, upstream = operands
        result = np.zeros((upstream.shape[0], *self.input_size, upstream.shape[3]), upstream.dtype)
        for row, column in np.ndindex(*upstream.shape[1:3]):
            i, j = np.divmod(places[:, row, column].astype(np.int64), self.kernel[1])
            y = i + row * self.stride[0] - self.padding[0]
            x = j + column * self.stride[1] - self.padding[1]
            inside = (i < self.kernel[0]) & (y >= 0) & (y < self.input_size[0]) & (x >= 0) & (x < self.input_size[1])
            samples, channels = np.nonzero(inside)
            np.add.at(result, (samples, y[inside], x[inside], channels), upstream[:, row, column][inside])
        return result

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        places, upstream = operands
        return placed_gradient(t, self._windows_of(*self.input_size), places, upstream)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for attributes, (height, width, channels) in _cases():
            op = cls(**attributes, input_size=(height, width))
            upstream = float_type(N, *op.output_size(height, width), channels)
            places = upstream.with_dtype(DType.UINT8)
            high = op.kernel[0] * op.kernel[1] + 1
            yield Sample(op, (places, upstream), integer_high=high, differentiable=False)


@dataclass(frozen=True)
class MinPoolGradient(Pool):
    """The gradient of MinPool, from its operand and the gradient by its result: to each window's first minimum."""

    def infer(self, *operands: TensorType) -> TensorType:
        x, upstream = operands
        if self._result(x) != upstream:
            raise ShapeError(f"the gradient is {show(upstream.shape)}; expected {show(self._result(x).shape)}")
        return x

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        x, upstream = operands
        return MaxPoolGradient(**self.attributes()).reference(-x, upstream)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        x, upstream = operands
        return extremum_gradient(t, self._windows_of(int(x.shape[1]), int(x.shape[2])), x, upstream, largest=False)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return _gradient_samples(cls)


@dataclass(frozen=True)
class AvgPoolGradient(Pool):
    """The gradient of AvgPool for an image of `input_size` (height, width), from the gradient by its result."""

    input_size: Pair = field(kw_only=True)

    def infer(self, *operands: TensorType) -> TensorType:
        (upstream,) = operands
        if upstream.rank != 4 or upstream.shape[1:3] != self.output_size(*self.input_size):
            raise ShapeError(
                f"the gradient is {show(upstream.shape)}; expected {self.output_size(*self.input_size)} windows"
            )
        return upstream.with_shape(upstream.shape[0], *self.input_size, upstream.shape[3])

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        (upstream,) = operands
        result = np.zeros((upstream.shape[0], *self.input_size, upstream.shape[3]), upstream.dtype)
        for (row, column), (rows, columns), divisor in self._windows(*self.input_size):
            result[:, rows, columns] += (upstream[:, row, column] / divisor)[:, None, None]
        return result

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (apply(AvgPool(**self.attributes()), upstream),)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (upstream,) = operands
        return mean_gradient(t, self._windows_of(*self.input_size), upstream)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for attributes, (height, width, channels) in _cases():
            op = cls(**attributes, input_size=(height, width))
            yield Sample(op, (float_type(N, *op.output_size(height, width), channels),))


def _cases() -> Iterable[tuple[dict[str, Any], tuple[int, int, int]]]:
    """Attributes of pools with the image sizes that they are tested on."""
    yield {"kernel": (2, 2), "stride": (2, 2)}, (6, 4, 3)
    yield {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}, (7, 8, 5)
    yield {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1, 1, 1), "count_padding": False}, (4, 5, 2)
    yield {"kernel": (3, 2), "stride": (2, 3), "padding": (1, 0, 0, 1), "ceil": True}, (6, 7, 3)
    yield {"kernel": (2, 2), "stride": (2, 2), "padding": (1, 1, 1, 1), "ceil": True, "count_padding": False}, (5, 5, 1)
    yield {"kernel": (2, 2), "stride": (3, 3), "ceil": True}, (6, 9, 17)


def _gradient_samples(cls: type[MaxPoolGradient] | type[MinPoolGradient] | type[MaxPoolPlaces]) -> Iterable[Sample]:
    for attributes, (height, width, channels) in _cases():
        op = cls(**attributes)
        upstream = float_type(N, *op.output_size(height, width), channels)
        yield Sample(op, (float_type(N, height, width, channels), upstream), distinct=True, differentiable=False)


def max_pool(
    x: Value,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil: bool = False,
) -> Value:
    """The maximum of each window of [N, H, W, C]; the stride defaults to the window's size."""
    return apply(MaxPool(pair(kernel), pair(kernel if stride is None else stride), sides(padding), ceil), x)


def min_pool(
    x: Value,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil: bool = False,
) -> Value:
    """The minimum of each window of [N, H, W, C]; the stride defaults to the window's size."""
    return apply(MinPool(pair(kernel), pair(kernel if stride is None else stride), sides(padding), ceil), x)


def avg_pool(
    x: Value,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil: bool = False,
    count_padding: bool = True,
) -> Value:
    """The mean of each window of [N, H, W, C]; the stride defaults to the window's size."""
    return apply(
        AvgPool(pair(kernel), pair(kernel if stride is None else stride), sides(padding), ceil, count_padding), x
    )
