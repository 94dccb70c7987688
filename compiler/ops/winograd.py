"""Convolution with fewer multiplications: Winograd's minimal filtering, tile by tile.

A tile of m x m results is computed from (m + k - 1)² transformed inputs and as many transformed weights: sums over input
channels become that many matrix products. `cook_toom` has the transforms; `winograd_kernel` the loops.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dlc.compiler.ir import N, Op, Sample, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.base import float_type
from dlc.compiler.ops.convolution import Conv2d, Sides
from dlc.compiler.ops.cook_toom import array, transforms
from dlc.compiler.ops.indexing import show, static
from dlc.compiler.ops.lowering import Lowering, Tensor
from dlc.compiler.ops.winograd_kernel import transformed_weights, winograd_convolution
from dlc.runtime.deferred import np
from dlc.runtime.layout import Transform

_COLUMNS = 512
"""Of how many weights at a time the taps are transformed: products so small that BLAS takes no threads for them, which cost
more than they bring."""


@dataclass(frozen=True)
class WinogradWeights(Op):
    """The transformed weight of a convolution with `channels` outputs: [(tile + kernel - 1)², ceil(O/block), I, block].

    The weight is canonical, [O, I, kernel, kernel], or packed by `packed` output channels, [ceil(O/packed), kernel, kernel, I,
    packed] (0: canonical). `turned` makes the weight of the gradient by the input of that convolution: half a turn, inputs
    and outputs exchanged. `channels` always counts the outputs of the transformed weight, `inputs` its inputs.
    """

    channels: int
    inputs: int
    kernel: int
    tile: int
    block: int
    packed: int = 0
    turned: bool = False

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the weight before."""
        o, i = (self.inputs, self.channels) if self.turned else (self.channels, self.inputs)
        if self.packed:
            return (-(-o // self.packed), self.kernel, self.kernel, i, self.packed)
        return (o, i, self.kernel, self.kernel)

    def infer(self, *operands: TensorType) -> TensorType:
        (weight,) = operands
        if weight.shape != self.weight_shape:
            raise ShapeError(f"the weight is {show(weight.shape)}; expected {show(self.weight_shape)}")
        places = (self.tile + self.kernel - 1) ** 2
        return weight.with_shape(places, -(-self.channels // self.block), self.inputs, self.block)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        (weight,) = operands
        if self.packed:
            blocks, height, width, inputs, block = weight.shape
            weight = weight.transpose(0, 4, 3, 1, 2).reshape(blocks * block, inputs, height, width)
        if self.turned:
            weight = weight[: self.inputs].transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
        weight = np.pad(weight[: self.channels], [(0, -self.channels % self.block), (0, 0), (0, 0), (0, 0)])
        taps = weight.reshape(-1, self.block, self.inputs, self.kernel**2).transpose(3, 0, 2, 1)
        matrix = array(transforms(self.tile, self.kernel).filter, weight.dtype)
        both, columns = np.kron(matrix, matrix), np.ascontiguousarray(taps).reshape(self.kernel**2, -1)
        result = np.empty((len(both), columns.shape[1]), weight.dtype)
        for start in range(0, columns.shape[1], _COLUMNS):
            result[:, start : start + _COLUMNS] = both @ columns[:, start : start + _COLUMNS]
        return result.reshape(-1, *taps.shape[1:])

    def transform(self, source: str) -> Transform | None:
        """How the runtime makes this of a canonical weight by its name; None where the weight is packed or turned."""
        if self.packed or self.turned:
            return None
        matrix = transforms(self.tile, self.kernel).filter
        return Transform(source, tuple(tuple(map(float, row)) for row in matrix), self.block)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (weight,) = operands
        packed, last = self.packed, self.kernel - 1

        def read(o: object, i: object, row: object, column: object) -> object:
            if self.turned:
                o, i, row, column = i, o, last - row, last - column  # type: ignore[operator]  # kernel expressions
            return weight(o // packed, row, column, i, o % packed) if packed else weight(o, i, row, column)  # type: ignore[operator]

        return transformed_weights(t, read, self.channels, self.inputs, self.kernel, self.tile, self.block)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for op in (
            cls(6, 3, 3, 4, 4),
            cls(8, 5, 3, 2, 8, 4),
            cls(5, 6, 3, 4, 4, 4, True),
            cls(4, 3, 5, 2, 4, 0, True),
            cls(33, 20, 3, 4, 16, 16),
            cls(20, 33, 3, 6, 16, 16, True),
        ):
            yield Sample(op, (float_type(*op.weight_shape),), differentiable=False)


@dataclass(frozen=True)
class WinogradConv2d(Op):
    """A convolution of stride 1 of [N, H, W, I] with transformed weights (`WinogradWeights`), tiles of `tile` x `tile` results.

    The weight may be packed, [ceil(O/block), kernel, kernel, I, block]: then it is transformed on the way.
    `padding` is (top, left, bottom, right). Equals `Conv2d` but for rounding.
    """

    channels: int
    kernel: int
    padding: Sides
    tile: int

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result for an image of this size. Raises ShapeError where the kernel does not fit."""
        return Conv2d(self.channels, (self.kernel, self.kernel), padding=self.padding).output_size(height, width)

    def infer(self, *operands: TensorType) -> TensorType:
        x, weight = operands
        if x.rank != 4 or weight.rank not in (4, 5):
            raise ShapeError(
                f"the image is {show(x.shape)}, the weight {show(weight.shape)}; they have 4 axes, a packed weight 5"
            )
        height, width, inputs = static(x.shape[1:])
        block = static(weight.shape[-1:])[0]
        blocks, places = -(-self.channels // block), (self.tile + self.kernel - 1) ** 2
        packed, transformed = (blocks, self.kernel, self.kernel, inputs, block), (places, blocks, inputs, block)
        if weight.shape not in (packed, transformed):
            raise ShapeError(f"the weight is {show(weight.shape)}; the image is {show(x.shape)}")
        return x.with_shape(x.shape[0], *self.output_size(height, width), self.channels)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        x, weight = operands
        m, (rows, columns) = self.tile, self.output_size(*operands[0].shape[1:3])
        size = m + self.kernel - 1
        high, across = -(-rows // m), -(-columns // m)
        top, left, _, _ = self.padding
        image = np.zeros((x.shape[0], high * m + size, across * m + size, x.shape[3]), x.dtype)
        seen = x[:, : image.shape[1] - top, : image.shape[2] - left]
        image[:, top : top + seen.shape[1], left : left + seen.shape[2]] = seen
        matrices = transforms(m, self.kernel)
        inputs, outputs = array(matrices.inputs, x.dtype), array(matrices.outputs, x.dtype)
        if weight.ndim == 5:
            block, inside = weight.shape[4], (self.channels, x.shape[3], self.kernel, self.tile, weight.shape[4])
            weight = WinogradWeights(*inside, packed=block).reference(weight)
        _, blocks, depth, block = weight.shape
        factors = weight.transpose(0, 2, 1, 3).reshape(size, size, depth, blocks * block)[..., : self.channels]
        result = np.zeros((x.shape[0], high * m, across * m, self.channels), x.dtype)
        for row in range(high):
            for column in range(across):
                tile = image[:, row * m : row * m + size, column * m : column * m + size]
                products = np.einsum("ai,bj,nijc,abco->nabo", inputs, inputs, tile, factors, optimize=True)
                back = np.einsum("pa,qb,nabo->npqo", outputs, outputs, products, optimize=True)
                result[:, row * m : (row + 1) * m, column * m : (column + 1) * m] = back
        return np.ascontiguousarray(result[:, :rows, :columns])

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        x, weight = operands
        size = self.output_size(int(x.shape[1]), int(x.shape[2]))
        return winograd_convolution(t, x, weight, self.channels, self.kernel, self.tile, self.padding, size)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for op, (height, width, inputs), block in (
            (cls(6, 3, (1, 1, 1, 1), 4), (5, 7, 3), 4),
            (cls(5, 3, (0, 0, 0, 0), 2), (7, 6, 4), 8),
            (cls(4, 5, (2, 2, 2, 2), 2), (5, 5, 3), 4),
            (cls(33, 3, (2, 0, 1, 2), 3), (9, 11, 16), 16),
            (cls(8, 3, (1, 1, 1, 1), 6), (1, 1, 5), 8),
        ):
            blocks, image = -(-op.channels // block), float_type(N, height, width, inputs)
            for weight in (
                ((op.tile + op.kernel - 1) ** 2, blocks, inputs, block),
                (blocks, op.kernel, op.kernel, inputs, block),
            ):
                yield Sample(op, (image, float_type(*weight)), differentiable=False)


def winograd_conv2d(x: Value, weight: Value, op: Conv2d, tile: int, block: int) -> Value:
    """The convolution `op` of stride 1 of x with a weight, canonical or packed as `op` says, by tiles."""
    inputs = static(x.type.shape[3:])[0]
    k = op.kernel[0]
    factors = apply(WinogradWeights(op.channels, inputs, k, tile, block, op.block), weight)
    return apply(WinogradConv2d(op.channels, k, op.padding, tile), x, factors)
