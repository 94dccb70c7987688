"""Weights of float32 rounded to bfloat16 and paired, once a training step (see `ops.paired` for the form).

For the product forward they are paired as they are; for the gradient by the image, turned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from dlc.compiler.ir import DType, Fusion, Op, Sample, ShapeError, TensorType
from dlc.compiler.ops.base import float_type
from dlc.compiler.ops.convolution import Conv2d, Pair
from dlc.compiler.ops.indexing import show
from dlc.compiler.ops.lowering import Lowering, Tensor
from dlc.compiler.ops.paired import can_pair, joins_columns, paired_type
from dlc.compiler.panel import CHANNELS, DEPTH
from dlc.runtime.deferred import np

HALF = CHANNELS // 2
"""Outputs whose pairs lie side by side."""


def places(place: Any) -> tuple[Any, Any, Any]:
    """Half of the block, pair and lane of an element of a chunk of pairs."""
    return place // (DEPTH // 2 * HALF), place // HALF % (DEPTH // 2), place % HALF


@dataclass(frozen=True)
class PairWeight(Op):
    """A packed weight [ceil(O/32), kh, kw, I/groups, 32] of the convolution `of`, rounded to bfloat16 and paired.

    With `is_turned` as the weight of the gradient by an image of `inputs` channels: these are the outputs, the convolution's own
    outputs the factors, and the kernel's rows and columns `first`, `first` + `step`, … are turned by half a turn (see `Phase`).
    """

    fusion: ClassVar[Fusion] = Fusion.CONTRACTION
    of: Conv2d
    inputs: int
    is_turned: bool = False
    first: Pair = (0, 0)
    step: Pair = (1, 1)

    @property
    def _reader(self) -> tuple[Conv2d, int]:
        """The convolution that reads what comes out, and its image's channels."""
        if not self.is_turned:
            return replace(self.of, block=0), self.inputs
        height, width = (-(-(k - f) // s) for k, f, s in zip(self.of.kernel, self.first, self.step, strict=True))
        return replace(self.of, block=0, channels=self.inputs, kernel=(height, width)), self.of.channels

    def infer(self, *operands: TensorType) -> TensorType:
        (weight,) = operands
        expected = self.of.weight_shape(self.inputs)
        if self.of.block != CHANNELS or weight.shape != expected:
            raise ShapeError(f"the weight is {show(weight.shape)}; expected {show(expected)} in blocks of {CHANNELS}")
        reader, inputs = self._reader
        height, width = reader.kernel
        own = inputs // reader.groups
        if joins_columns(reader):
            return paired_type(reader.channels, (height, 1), width * own)
        return paired_type(reader.channels, (height, width), own)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        reader, inputs = self._reader
        weight = np.asarray(operands[0], np.float32).transpose(0, 4, 3, 1, 2)
        canonical = weight.reshape(-1, *weight.shape[2:])  # with what lies in the place of missing outputs
        groups, own = self.of.groups, inputs // self.of.groups
        if self.is_turned:
            canonical = canonical[: self.of.channels].reshape(groups, -1, *canonical.shape[1:]).swapaxes(1, 2)
            canonical = canonical.reshape(reader.channels, own, *self.of.kernel)
            canonical = canonical[:, :, self.first[0] :: self.step[0], self.first[1] :: self.step[1]][:, :, ::-1, ::-1]
        height, width = reader.kernel
        view = (height, 1, width * own) if joins_columns(reader) else (height, width, own)
        return paired(canonical.transpose(0, 2, 3, 1).reshape(-1, *view))

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (weight,) = operands
        reader, inputs = self._reader
        (height, width), own = reader.kernel, inputs // reader.groups
        joined, group = joins_columns(reader), reader.channels // reader.groups
        result = self.infer(TensorType(self.of.weight_shape(self.inputs)))
        factors = width * own if joined else own

        def read(o: Any, i: Any, tap: Any, k: Any) -> Any:
            j, c = (k // own, k % own) if joined else (tap, k)
            if self.is_turned:
                outside = o // group * own + c if reader.groups > 1 else c
                row = self.first[0] + (height - 1 - i) * self.step[0]
                column = self.first[1] + (width - 1 - j) * self.step[1]
                channel = o % group if reader.groups > 1 else o
            else:
                outside, row, column, channel = o, i, j, c
            value = weight(outside // CHANNELS, row, column, channel, outside % CHANNELS)
            inside = [k < factors] if factors % DEPTH else []
            if self.is_turned and reader.channels % CHANNELS:
                inside.append(o < reader.channels)
            return t.guarded(t.all_of(*inside), value, 0.0) if inside else value

        def element(block: Any, i: Any, tap: Any, chunk: Any, place: Any) -> Any:
            half, pair, lane = places(place)
            first = chunk * DEPTH + pair * 2
            o = block * CHANNELS + half * HALF + lane
            return t.pair(read(o, i, tap, first), read(o, i, tap, first + 1))

        full = own % DEPTH == 0 or (reader.groups == 1 and width == 1)
        by_blocks = self.is_turned and full and reader.channels % CHANNELS == 0
        return t.compute(result.shape, element, "paired", {"dlc.anchor": "pair_weight", "dlc.turned": int(by_blocks)})

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for of, (_, _, inputs) in cases():
            weight = float_type(*of.weight_shape(inputs))
            yield Sample(cls(of, inputs), (weight,), differentiable=False)
            if can_pair(replace(of, block=0, channels=inputs), of.channels):
                yield Sample(cls(of, inputs, True), (weight,), differentiable=False)
                if of.kernel[0] > 2:
                    yield Sample(cls(of, inputs, True, (1, 0), (2, 2)), (weight,), differentiable=False)


def paired(factors: np.ndarray) -> np.ndarray:
    """[O, kernel rows, taps, factors], float32, as pairs."""
    channels, height, taps, count = factors.shape
    far = (0, -channels % CHANNELS), (0, 0), (0, 0), (0, -count % DEPTH)
    bits = np.pad(factors, far).astype(DType.BFLOAT16.numpy).view(np.uint16).astype(np.uint32)
    split = bits.reshape(-1, 2, HALF, height, taps, (count + far[3][1]) // DEPTH, DEPTH // 2, 2)
    turned = split.transpose(0, 3, 4, 5, 1, 6, 2, 7)
    pairs = turned[..., 0] | turned[..., 1] << np.uint32(16)
    return np.ascontiguousarray(pairs.reshape(*pairs.shape[:4], -1))


def cases() -> Iterable[tuple[Conv2d, tuple[int, int, int]]]:
    """Convolutions, their weights packed, and the images that they are tested on."""
    for of, size in (
        (Conv2d(6, (5, 5), padding=(2, 2, 2, 2)), (9, 7, 1)),
        (Conv2d(33, (3, 3), padding=(1, 1, 1, 1)), (7, 7, 40)),
        (Conv2d(40, (1, 1)), (7, 5, 100)),
        (Conv2d(64, (1, 1), (2, 2)), (7, 6, 32)),
        (Conv2d(35, (3, 2), (2, 1), (1, 0, 0, 1), (2, 1)), (10, 11, 17)),
        (Conv2d(16, (7, 7), (2, 2), (3, 3, 3, 3)), (15, 12, 3)),
        (Conv2d(64, (3, 3), padding=(1, 1, 1, 1), groups=2), (6, 5, 96)),
        (Conv2d(32, (3, 3), (3, 2), (2, 2, 2, 2), (2, 2)), (11, 8, 32)),
        (Conv2d(96, (1, 1)), (3, 5, 96)),
        (Conv2d(256, (1, 3)), (1, 5, 33)),
    ):
        yield replace(of, block=CHANNELS), size
