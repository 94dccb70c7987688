"""Moving the pixels of images: bilinear sampling under an affine map for each image, for augmentation while training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dlc.compiler.ir import DType, N, Op, Sample, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.indexing import show, static
from dlc.compiler.ops.lowering import Lowering, Tensor, type_of
from dlc.runtime.data.affine import AFTER, BEFORE, Field, warp
from dlc.runtime.deferred import np

VECTOR = 16
"""Numbers to which rows of packed neighbours are rounded up."""


@dataclass(frozen=True)
class WarpImages(Op):
    """`runtime.data.affine.warp`: images [M, C, H, W], the numbers of samples among them [N], int32, places [N, 6], scale and offset [C, 1, 1] or
    [C, *size], and for a field noise [N, 2, a, b], rows [H, a] and columns [W, b] -> float32 [N, C, *size]. Images are uint8
    or float32.

    Four neighbours that are bytes are first packed into one word for each place, so that a sample takes one read from
    memory and not four.
    """

    size: tuple[int, int]

    def infer(self, *operands: TensorType) -> TensorType:
        if len(operands) not in (5, 8):
            raise ShapeError(f"warp_images takes 5 or 8 operands, not {len(operands)}")
        images, samples, places, *rest = operands
        if images.rank != 4 or images.dtype not in (DType.UINT8, DType.FLOAT32):
            raise ShapeError(f"cannot warp {images}; expected images of uint8 or float32")
        if samples.rank != 1 or samples.dtype is not DType.INT32:
            raise ShapeError(f"samples are given by their numbers, int32, not by {samples}")
        (batch,), channels = samples.shape, images.shape[1]
        factors = [(channels, 1, 1), (channels, *self.size)]
        if places.shape != (batch, 6) or any(r.shape not in factors for r in rest[:2]):
            raise ShapeError(f"cannot warp {show(images.shape)} to {self.size} by {show(places.shape)}")
        if rest[2:]:
            noise, rows, columns = rest[2:]
            if noise.rank != 4 or (rows.shape, columns.shape) != tuple(zip(self.size, noise.shape[2:], strict=True)):
                raise ShapeError(
                    f"a field for {self.size} cannot be of {' and '.join(show(r.shape) for r in rest[2:])}"
                )
        return TensorType((batch, channels, *self.size), places.dtype)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        images, samples, places, scale, offset, *field = operands
        return warp(images, samples, places, scale, offset, Field(*field) if field else None, size=self.size)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        images, samples, places, scale, offset, *factors = operands
        m = t.maths
        (batch,), (_, channels, *sizes) = type_of(samples).shape, type_of(images).shape
        height, width = static(tuple(sizes))
        packed = type_of(images).dtype is DType.UINT8

        def pixel(n: Any, k: Any, r: Any, c: Any) -> Any:
            inside = t.all_of(r >= BEFORE, r < height + BEFORE, c >= BEFORE, c < width + BEFORE)
            zero = m.constant(0, type_of(images).dtype)
            return t.guarded(inside, images(samples(n), k, r - BEFORE, c - BEFORE), zero)

        def word(value: int) -> Any:
            return m.constant(value, DType.UINT32)

        def four(n: Any, k: Any, r: Any, c: Any) -> Any:
            neighbours = ((0, 0, 0), (0, 1, 8), (1, 0, 16), (1, 1, 24))
            bytes_ = [m.cast(framed(n, k, r + i, c + j), DType.UINT32) << word(s) for i, j, s in neighbours]
            return bytes_[0] | bytes_[1] | bytes_[2] | bytes_[3]

        def element(n: Any, k: Any, r: Any, c: Any) -> Any:
            row, column = m.cast(r, DType.FLOAT32), m.cast(c, DType.FLOAT32)
            if field is not None:
                row, column = row + field(n, 0, r, c), column + field(n, 1, r, c)
            y = places(n, 0) * row + places(n, 1) * column + places(n, 2)
            x = places(n, 3) * row + places(n, 4) * column + places(n, 5)
            y = m.minimum(m.maximum(y, 0.0), float(height + BEFORE))
            x = m.minimum(m.maximum(x, 0.0), float(width + BEFORE))
            top, left = m.cast(y, DType.INT32), m.cast(x, DType.INT32)
            down, right = y - m.cast(top, DType.FLOAT32), x - m.cast(left, DType.FLOAT32)

            def corner(i: int, j: int) -> Any:
                if not packed:
                    return source(n, k, top + i, left + j)
                byte = (source(n, k, top, left) >> word(16 * i + 8 * j)) & word(255)
                return m.cast(m.cast(byte, DType.INT32), DType.FLOAT32)

            upper = corner(0, 0) + (corner(0, 1) - corner(0, 0)) * right
            lower = corner(1, 0) + (corner(1, 1) - corner(1, 0)) * right
            sample = upper + (lower - upper) * down
            at = (k, 0, 0) if type_of(scale).shape[1:] == (1, 1) else (k, r, c)
            return sample * scale(*at) + offset(*at)

        field = self._field(t, *factors) if factors else None
        rows, columns = height + BEFORE + AFTER, width + BEFORE + AFTER
        whole = -(-columns // VECTOR) * VECTOR  # whole vectors; what is behind the frame is never sampled
        framed = t.compute((batch, channels, rows, whole + VECTOR if packed else columns), pixel, "framed")
        source = t.compute((batch, channels, rows - 1, whole), four, "four") if packed else framed
        return t.compute((batch, channels, *self.size), element, self.name, {"dlc.anchor": "warp"})

    def _field(self, t: Lowering, noise: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        batch, pair, a, b = type_of(noise).shape
        height, width = self.size
        i, j = t.reduce_axis(a, "i"), t.reduce_axis(b, "j")
        # the columns stand inside, so that both products run along rows
        turned = t.compute((b, width), lambda k, c: columns(c, k), "turned")
        wide = t.compute(
            (batch, pair, a, width), lambda n, p, k, c: t.sum(noise(n, p, k, j) * turned(j, c), [j]), "wide"
        )
        return t.compute(
            (batch, pair, height, width), lambda n, p, r, c: t.sum(rows(r, i) * wide(n, p, i, c), [i]), "field"
        )

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        cases = []
        for dtype in (DType.UINT8, DType.FLOAT32):
            for per_pixel, displaced in ((False, False), (True, True)):
                factor = TensorType((2, 5, 17) if per_pixel else (2, 1, 1))
                operands = [
                    TensorType((7, 2, 6, 5), dtype),
                    TensorType((N,), DType.INT32),
                    TensorType((N, 6)),
                    factor,
                    factor,
                ]
                operands += [TensorType((N, 2, 3, 2)), TensorType((5, 3)), TensorType((17, 2))] if displaced else []
                cases.append(Sample(cls((5, 17)), tuple(operands), differentiable=False))
        return cases


def warp_images(
    images: Value, samples: Value, places: Value, scale: Value, offset: Value, size: tuple[int, int], *field: Value
) -> Value:
    """Images sampled at places, with scale and offset, and noise, rows and columns for a field: see `WarpImages`."""
    return apply(WarpImages(size), images, samples, places, scale, offset, *field)
