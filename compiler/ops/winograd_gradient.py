"""The gradient of a convolution by its weight, with fewer multiplications: the weight is what a minimal filter gives.

A tile of m x m gradients, taken as a filter, and the (m + k - 1)² inputs that it meets give a part of all k x k elements of the
weight's gradient. The sums over tiles are made of transformed numbers, (m + k - 1)² matrix products, and transformed back once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dlc.compiler.ir import N, Op, Sample, ShapeError, TensorType
from dlc.compiler.ops.base import float_type
from dlc.compiler.ops.convolution import Conv2d, Conv2dWeightGradient, Sides
from dlc.compiler.ops.cook_toom import array, transforms
from dlc.compiler.ops.indexing import show, static
from dlc.compiler.ops.lowering import Lowering, Tensor
from dlc.compiler.ops.winograd_kernel import transformed
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class WinogradWeightGradient(Op):
    """The gradient of a convolution of stride 1 by its packed weight, [ceil(O/block), kernel, kernel, I, block].

    Operands are the image [N, H, W, I] and the gradient by the result [N, h, w, O]; `tile` x `tile` of the latter are a tile.
    `padding` is (top, left, bottom, right). Equals `Conv2dWeightGradient` but for rounding.
    """

    channels: int
    kernel: int
    padding: Sides
    tile: int
    block: int
    in_channels: int

    @property
    def direct(self) -> Conv2dWeightGradient:
        """The op without tiles."""
        kernel = (self.kernel, self.kernel)
        return Conv2dWeightGradient(
            self.channels, kernel, padding=self.padding, block=self.block, in_channels=self.in_channels
        )

    def infer(self, *operands: TensorType) -> TensorType:
        if not self.block:
            raise ShapeError(f"a gradient by tiles is packed, not {show(operands[0].shape)}")
        return self.direct.infer(*operands)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        x, upstream = operands
        m, k = self.tile, self.kernel
        size = m + k - 1
        rows, columns = upstream.shape[1:3]
        high, across = -(-rows // m), -(-columns // m)
        top, left, _, _ = self.padding
        image = np.zeros((x.shape[0], high * m + k - 1, across * m + k - 1, x.shape[3]), x.dtype)
        seen = x[:, : image.shape[1] - top, : image.shape[2] - left]
        image[:, top : top + seen.shape[1], left : left + seen.shape[2]] = seen
        far = [(0, 0), (0, high * m - rows), (0, across * m - columns), (0, -self.channels % self.block)]
        upstream = np.pad(upstream, far)
        matrices = transforms(k, m)
        inputs, filters, outputs = (array(a, x.dtype) for a in (matrices.inputs, matrices.filter, matrices.outputs))
        total = np.zeros((size, size, x.shape[3], upstream.shape[3]), x.dtype)
        for row in range(0, high * m, m):
            for column in range(0, across * m, m):
                tile = image[:, row : row + size, column : column + size]
                own = upstream[:, row : row + m, column : column + m]
                one = np.einsum("ai,bj,nijc->nabc", inputs, inputs, tile, optimize=True)
                other = np.einsum("ai,bj,nijo->nabo", filters, filters, own, optimize=True)
                total += np.einsum("nabc,nabo->abco", one, other, optimize=True)
        result = np.einsum("pa,qb,abco->pqco", outputs, outputs, total, optimize=True)
        return np.ascontiguousarray(
            result.reshape(k, k, x.shape[3], -1, self.block).transpose(3, 0, 1, 2, 4), dtype=x.dtype
        )

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        return gradient_by_tiles(t, self, *operands)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for op, (height, width) in (
            (cls(6, 3, (1, 1, 1, 1), 4, 4, 3), (5, 7)),
            (cls(5, 3, (0, 0, 0, 0), 2, 8, 4), (7, 6)),
            (cls(33, 3, (2, 0, 1, 2), 2, 16, 20), (9, 11)),
            (cls(40, 3, (1, 1, 1, 1), 3, 32, 32), (1, 1)),
        ):
            upstream = float_type(N, *_result(op, height, width), op.channels)
            yield Sample(op, (float_type(N, height, width, op.in_channels), upstream), differentiable=False)


def _result(op: WinogradWeightGradient, height: int, width: int) -> tuple[int, int]:
    return Conv2d(op.channels, (op.kernel, op.kernel), padding=op.padding).output_size(height, width)


def gradient_by_tiles(t: Lowering, op: WinogradWeightGradient, x: Tensor, upstream: Tensor) -> Tensor:
    """The kernel form: image and gradient go through strips of rows (`strip`, `down`) to tiles (`across`), the gradient's parts
    with names that begin with `own_`; `products` are summed over tiles, and go back through `up` and `back`.

    The images are cut into parts with sums of their own, added up at the end (`parts`).
    """
    m, k, block = op.tile, op.kernel, op.block
    size, inputs = m + k - 1, op.in_channels
    height, width = static((int(x.shape[1]), int(x.shape[2])))
    rows, columns = _result(op, height, width)
    blocks, high, wide = -(-op.channels // block), -(-rows // m), -(-columns // m)
    tasks = t.gradient_tasks((rows, columns), inputs, op.channels, k, m, block)
    parts, chunk = tasks.parts, t.vector(inputs)
    images = x.shape[0] if parts == 1 else int(x.shape[0]) // parts
    top, left = op.padding[:2]
    matrices = transforms(k, m)

    def tiles(
        source: Tensor, depth: int, together: int, matrix: Any, name: str, reach: int, near: tuple[int, int]
    ) -> Tensor:
        """[size, size, groups of channels, images, rows and columns of tiles, channels of a group]."""
        down, right = int(source.shape[1]), int(source.shape[2])
        outer, across = (-(-depth // together), x.shape[0], high), wide * m + reach - m

        def pixel(r: Any, c: Any, n: Any, y: Any, column: Any, lane: Any) -> Any:
            row, place, channel = y * m + r - near[0], column - near[1], c * together + lane
            inside = []
            if near[0] > 0:
                inside.append(row >= 0)
            if high * m + reach - m - near[0] > down:
                inside.append(row < down)
            if near[1] > 0:
                inside.append(place >= 0)
            if across - near[1] > right:
                inside.append(place < right)
            if depth % together:
                inside.append(channel < depth)
            value = source(n, row, place, channel)
            return t.guarded(t.all_of(*inside), value, 0.0) if inside else value

        strip = t.compute((reach, *outer, across, together), pixel, name + "strip", {"dlc.part": name + "strip"})
        rows_done = transformed(
            t, matrix, 0, (size, *outer, across, together), lambda r, i: strip(r, *i), name + "down"
        )
        return transformed(
            t,
            matrix,
            1,
            (size, size, *outer, wide, together),
            lambda s, i: rows_done(*i[:4], i[4] * m + s, i[5]),
            name + "across",
        )

    one = tiles(x, inputs, chunk, matrices.inputs, "", size, (top, left))
    other = tiles(upstream, op.channels, block, matrices.filter, "own_", m, (0, 0))
    n, y, z = (t.reduce_axis(e, name) for e, name in ((images, "n"), (high, "y"), (wide, "z")))

    def product(i: Any, j: Any, p: Any, o: Any, c: Any, lane: Any) -> Any:
        image = n if parts == 1 else p * images + n
        return t.sum(one(i, j, c // chunk, image, y, z, c % chunk) * other(i, j, o, image, y, z, lane), [n, y, z])

    attributes = {"dlc.anchor": "winograd_gradient", "dlc.block": block, **tasks.attributes()}
    back = (parts, blocks, inputs, block)
    products = t.compute((size, size, *back), product, "products", attributes)
    up = transformed(t, matrices.outputs, 0, (k, size, *back), lambda r, i: products(r, *i), "up")
    sums = transformed(t, matrices.outputs, 1, (k, k, *back), lambda s, i: up(i[0], s, *i[1:]), "back")
    shape = (blocks, k, k, inputs, block)
    if parts == 1:
        return t.compute(shape, lambda o, i, j, c, lane: sums(i, j, 0, o, c, lane), "merged", {"dlc.part": "merge"})
    p = t.reduce_axis(parts, "p")
    return t.compute(
        shape, lambda o, i, j, c, lane: t.sum(sums(i, j, p, o, c, lane), [p]), "total", {"dlc.part": "parts"}
    )
