"""Convolution and linear layer over paired weights: factors of 16 bits, two neighbours at a time, sums in float32.

Matrix units and dot-product instructions for 16 bits take the factors of one output in pairs. A paired weight is
[ceil(O/32), kh, taps, chunks, 1024]: for each block of 32 outputs, each kernel row and each tap the factors in chunks of 32,
and in each chunk [2 halves of the block, 16 pairs, 16 outputs, 2]. Outputs and factors that are missing are zero. The elements
are bfloat16, or pairs: a uint32 for both factors of a pair, the first in its lower half, where a program makes them (`ops.pairs`).

Where neighbouring columns of the image follow each other in memory (no groups, no dilation across), a tap is a whole kernel
row: kw·I factors in one. Else there is a tap for each kernel column. What is multiplied by missing factors is whatever lies
behind in the image, so an infinity there makes NaN of its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dlc.compiler.ir import DType, N, Op, Sample, ShapeError, TensorType
from dlc.compiler.ops.base import widened
from dlc.compiler.ops.contraction import cropped, padded_image, round_up
from dlc.compiler.ops.convolution import Conv2d, Pair
from dlc.compiler.ops.indexing import show, static
from dlc.compiler.ops.linear import Linear
from dlc.compiler.ops.lowering import Lowering, Tensor, static_extent
from dlc.compiler.panel import CHANNELS, DEPTH, Panel
from dlc.runtime.deferred import np
from dlc.runtime.layout import Layout

CHUNK = CHANNELS * DEPTH


def joins_columns(convolution: Conv2d) -> bool:
    """Whether the factors of a whole kernel row lie side by side in the image."""
    return convolution.groups == 1 and convolution.dilation[1] == 1


def can_pair(convolution: Conv2d, inputs: int) -> bool:
    """Whether a convolution of an image with `inputs` channels has a paired form."""
    if convolution.block:
        return False
    groups = convolution.groups
    return joins_columns(convolution) or (
        2 * inputs >= groups * DEPTH and convolution.channels // groups % CHANNELS == 0
    )


def paired_shape(channels: int, kernel: Pair, factors: int) -> tuple[int, ...]:
    """The shape of a paired weight; `kernel` counts kernel rows and taps, `factors` those of one tap."""
    return (-(-channels // CHANNELS), *kernel, -(-factors // DEPTH), CHUNK)


def paired_layout(
    first: Layout | None, canonical: tuple[int, ...], channels: int, kernel: Pair, factors: int
) -> Layout:
    """The layout of a paired weight; `first` brings the canonical form into [O, kernel rows, taps, factors]."""
    blocks, _, _, chunks, _ = packed = paired_shape(channels, kernel, factors)
    view = (channels, *kernel, factors)
    padded = (blocks * CHANNELS, *kernel, chunks * DEPTH)
    split = (blocks, 2, CHANNELS // 2, *kernel, chunks, DEPTH // 2, 2)
    order = (0, 3, 4, 5, 1, 6, 2, 7)
    if first is None:
        return Layout(canonical, view, padded, split, order, packed)
    second = Layout(first.packed, view, padded, split, order, packed)
    return Layout(first.canonical_shape, first.view, first.padded, first.split, first.order, packed, second)


def convolution_layout(convolution: Conv2d, inputs: int) -> Layout:
    """From a canonical weight [O, I/groups, kh, kw] to the paired one."""
    height, width = convolution.kernel
    own = inputs // convolution.groups
    shape = (convolution.channels, own, height, width)
    first = Layout(shape, shape, shape, shape, (0, 2, 3, 1), (convolution.channels, height, width, own))
    kernel, factors = ((height, 1), width * own) if joins_columns(convolution) else ((height, width), own)
    return paired_layout(first, shape, convolution.channels, kernel, factors)


def linear_layout(features: int, width: int, image: tuple[int, ...] = ()) -> Layout:
    """From a canonical weight [O, K] to the paired one; `image` is height, width and channels of what K flattens."""
    first = None
    if image:
        height, columns, channels = image
        view = (features, channels, height, columns)
        first = Layout((features, width), view, view, view, (0, 2, 3, 1), (features, width))
    return paired_layout(first, (features, width), features, (1, 1), width)


def paired_type(channels: int, kernel: Pair, factors: int) -> TensorType:
    """The type of a paired weight whose elements are pairs."""
    *outer, chunk = paired_shape(channels, kernel, factors)
    return TensorType((*outer, chunk // 2), DType.UINT32)


def unpaired(weight: np.ndarray, channels: int) -> np.ndarray:
    """[O, kernel rows, taps, chunks·32] of a paired weight, as float32."""
    if weight.dtype == np.uint32:
        weight = np.ascontiguousarray(weight).astype("<u4").view("<u2").view(DType.BFLOAT16.numpy)
    blocks, height, taps, chunks, _ = weight.shape
    split = widened(weight).reshape(blocks, height, taps, chunks, 2, DEPTH // 2, CHANNELS // 2, 2)
    return split.transpose(0, 4, 6, 1, 2, 3, 5, 7).reshape(blocks * CHANNELS, height, taps, chunks * DEPTH)[:channels]


def check_paired(weight: TensorType, expected: tuple[int, ...], x: TensorType) -> None:
    """Raises ShapeError for what is not a paired weight of the shape `expected` (of bfloat16), or an operand of other factors."""
    if weight.dtype is DType.UINT32:
        expected = (*expected[:-1], expected[-1] // 2)
    if weight.shape != expected:
        raise ShapeError(f"the paired weight is {show(weight.shape)}; expected {show(expected)}")
    if not x.dtype.is_reduced or weight.dtype not in (x.dtype, DType.UINT32):
        raise ShapeError(f"paired factors have 16 bits, not {x.dtype} and {weight.dtype}")


Pixel = Callable[[Any, Any, Any, Any, Any, Any, Any], Any]
"""The factor of the result's image, row, column and channel, and of a kernel row, a tap and a factor of it."""


def products(t: Lowering, shape: tuple[Any, ...], pixel: Pixel, weight: Tensor, panel: Panel, channels: int) -> Tensor:
    """Σ pixel(n, y, x, o, i, j, k) · weight: the block that becomes a call for each panel. `channels` are not missing."""
    _, height, taps, chunks, _ = (int(e) for e in weight.shape)
    i, j, k = (t.reduce_axis(e, name) for e, name in ((height, "kh"), (taps, "kw"), (chunks * DEPTH, "k")))

    def element(n: Any, y: Any, x: Any, o: Any) -> Any:
        return t.sum(pixel(n, y, x, o, i, j, k) * factor(t, weight, o, i, j, k), [i, j, k])

    attributes = {
        "dlc.anchor": "paired",
        "dlc.high": panel.high,
        "dlc.wide": panel.wide,
        "dlc.halves": halves(channels),
    }
    return t.compute(shape, element, "products", attributes)


def halves(channels: int) -> int:
    """Halves of blocks that have channels."""
    return 1 if channels <= CHANNELS // 2 else 2


def factor(t: Lowering, weight: Tensor, o: Any, i: Any, j: Any, k: Any) -> Any:
    """The factor k of an output, a kernel row and a tap, of a paired weight."""
    size = int(weight.shape[4])
    lane, own = o % CHANNELS, k % DEPTH
    half = CHANNELS // 2
    place = lane // half * (CHUNK // 2) + own // 2 * CHANNELS + lane % half * 2 + own % 2
    read = weight(o // CHANNELS, i, j, k // DEPTH, place * size // CHUNK)
    return read if size == CHUNK else t.half_of_pair(read, own % 2)


@dataclass(frozen=True)
class PairedConv2d(Op):
    """The convolution `of` (its weight canonical) over a paired weight; image and weight have 16 bits, the result is float32."""

    of: Conv2d

    def _shape(self, inputs: int) -> tuple[int, ...]:
        own, (height, width) = inputs // self.of.groups, self.of.kernel
        if joins_columns(self.of):
            return paired_shape(self.of.channels, (height, 1), width * own)
        return paired_shape(self.of.channels, (height, width), own)

    def infer(self, *operands: TensorType) -> TensorType:
        x, weight = operands
        inputs = static(x.shape[3:])[0]
        check_paired(weight, self._shape(inputs), x)
        return self.of.infer(x, x.with_shape(*self.of.weight_shape(inputs)))

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        x, weight = operands
        own, (height, width) = x.shape[3] // self.of.groups, self.of.kernel
        factors = unpaired(weight, self.of.channels)
        taken = width * own if joins_columns(self.of) else own
        canonical = factors[..., :taken].reshape(self.of.channels, height, width, own).transpose(0, 3, 1, 2)
        return self.of.reference(widened(x), canonical)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        x, weight = operands
        of = self.of
        inputs = int(x.shape[3])
        rows, columns = of.output_size(int(x.shape[1]), int(x.shape[2]))
        _, height, taps, chunks, _ = (int(e) for e in weight.shape)
        deep, depth = int(weight.shape[0]) * CHANNELS, chunks * DEPTH
        down, across = of.stride
        flat = of.kernel == of.stride == (1, 1) and not any(of.padding) and depth == inputs
        whole = t.panel_of_whole_rows(rows, columns) if flat else None
        if whole is not None:

            def point(n: Any, y: Any, p: Any, o: Any, i: Any, j: Any, k: Any) -> Any:
                return x(n, p // columns, p % columns, k)

            one_row = products(t, (x.shape[0], 1, rows * columns, deep), point, weight, whole, of.channels)
            return t.compute(
                (x.shape[0], rows, columns, of.channels),
                lambda n, y, column, o: one_row(n, 0, y * columns + column, o),
                "unfolded",
                {"dlc.part": "crop"},
            )
        panel = t.panel(rows, columns)
        high, wide = round_up(rows, panel.high), round_up(columns, panel.wide)
        joined, own = joins_columns(of), inputs // of.groups
        further = (taps - 1) * of.dilation[1] + (inputs - own + depth - 1) // inputs  # chunks end in a column behind
        reach = (
            (high - 1) * down + (height - 1) * of.dilation[0] + 1,
            (wide - 1) * across + further + 1,
        )
        image = t.copied(x, lambda bits: padded_image(t, bits, of.padding[:2], reach))
        group = of.channels // of.groups

        def pixel(n: Any, y: Any, column: Any, o: Any, i: Any, j: Any, k: Any) -> Any:
            row, first = y * down + i * of.dilation[0], column * across + j * of.dilation[1]
            if joined:
                return image(n, row, first + k // inputs, k % inputs)
            channel = o // group * own + k
            return image(n, row, first + channel // inputs, channel % inputs)

        result = products(t, (x.shape[0], high, wide, deep), pixel, weight, panel, of.channels)
        return cropped(t, result, (x.shape[0], rows, columns, of.channels), always=True)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for convolution, (height, width, inputs) in _cases():
            op = cls(convolution)
            types = (TensorType((N, height, width, inputs)), TensorType(op._shape(inputs)))
            yield Sample(op, tuple(x.with_dtype(DType.BFLOAT16) for x in types), differentiable=False)


@dataclass(frozen=True)
class PairedLinear(Op):
    """y[n, o] = Σ x[n, k] · weight[o, k] over a paired weight; x and weight have 16 bits, the result is float32."""

    features: int

    def infer(self, *operands: TensorType) -> TensorType:
        x, weight = operands
        if x.rank != 2:
            raise ShapeError(f"the operand is {show(x.shape)}; expected [N, features]")
        check_paired(weight, paired_shape(self.features, (1, 1), static(x.shape[1:])[0]), x)
        return x.sums(x.shape[0], self.features)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        x, weight = operands
        canonical = unpaired(weight, self.features).reshape(self.features, -1)[:, : x.shape[1]]
        return Linear(self.features).reference(widened(x), np.ascontiguousarray(canonical))

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        x, weight = operands
        count, inputs = x.shape[0], int(x.shape[1])
        panel = t.panel_of_rows(static_extent(count))
        depth = int(weight.shape[3]) * DEPTH
        high = round_up(count, panel.wide)
        whole = static_extent(count) is not None and high == static_extent(count)

        def padded(bits: Tensor) -> Tensor:
            def element(n: Any, k: Any) -> Any:
                inside = [] if whole else [n < count]
                inside += [k < inputs] if depth > inputs else []
                return t.guarded(t.all_of(*inside), bits(n, k), 0)

            return t.compute((high, depth), element, "padded", {"dlc.part": "padding"})

        if not whole or depth > inputs:
            x = t.copied(x, padded)

        def row(n: Any, y: Any, p: Any, o: Any, i: Any, j: Any, k: Any) -> Any:
            return x(p, k)

        deep = int(weight.shape[0]) * CHANNELS
        result = products(t, (1, 1, high, deep), row, weight, panel, self.features)
        return t.compute((count, self.features), lambda n, o: result(0, 0, n, o), "unfolded", {"dlc.part": "crop"})

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for features, width in ((5, 32), (1, 96), (40, 64)):
            types = (TensorType((N, width)), TensorType(paired_shape(features, (1, 1), width)))
            yield Sample(cls(features), tuple(x.with_dtype(DType.BFLOAT16) for x in types), differentiable=False)


def _cases() -> Iterable[tuple[Conv2d, tuple[int, int, int]]]:
    """Convolutions with the image sizes that they are tested on: no factor is missing, so random weights are legal."""
    yield Conv2d(6, (3, 3), padding=(1, 1, 1, 1)), (5, 7, 32)
    yield Conv2d(33, (1, 1)), (7, 7, 64)
    yield Conv2d(40, (1, 1)), (5, 23, 64)
    yield Conv2d(16, (1, 1), (2, 2)), (7, 6, 32)
    yield Conv2d(35, (3, 2), (2, 2), (1, 1, 1, 1)), (9, 11, 16)
    yield Conv2d(64, (3, 2), padding=(2, 0, 1, 1), groups=2), (5, 6, 64)
    yield Conv2d(32, (3, 3), padding=(2, 2, 2, 2), dilation=(2, 2)), (6, 8, 32)
    yield Conv2d(8, (7, 8), (2, 2), (3, 3, 3, 3)), (21, 37, 4)
