"""Convolutions, linear layers and their gradients as products of matrices: which rows, columns and depth each has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dlc.compiler.codegen.emit import Part
from dlc.compiler.ir import Value
from dlc.compiler.ops.convolution import Conv2d, Conv2dInputGradient, Conv2dWeightGradient, Convolution
from dlc.compiler.ops.indexing import static
from dlc.compiler.ops.linear import Linear, LinearInputGradient, LinearOp, LinearWeightGradient

Pair = tuple[int, int]

FEWEST_CHANNELS = 8
"""Channels of a group from which on tiles of a product are not mostly empty."""

TF32_BITS = 11
"""Significant bits of tensor cores' factors in single precision."""

SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of the factors' element types."""


class Kind(Enum):
    """What M, N and K of a product are: FORWARD (positions, output channels, the kernel's elements), BY_IMAGE (positions,
    input channels, the kernel's elements), BY_WEIGHT (output channels, the kernel's elements, positions)."""

    FORWARD = 0
    BY_IMAGE = 1
    BY_WEIGHT = 2


class Units(Enum):
    """What multiplies: ordinary units in exact float32, or tensor cores."""

    SCALAR = 0
    TF32 = 1
    FLOAT16 = 2
    BFLOAT16 = 3


@dataclass(frozen=True)
class Problem:
    """A product [M, K] · [K, N] for each piece: a group of channels, and of a strided gradient by the image a phase.

    A position (y, x) of the `grid` and an element (i, j) of the kernel meet at row y·move + shift + i·step of the source
    (columns alike), whose size is (rows, columns, channels). `inputs` and `outputs` count the channels of one group.
    `phases` count the residues by which a strided gradient's rows and columns differ: position q of phase r is row
    q·phases + r + offset of the result, if that is one of its `result` rows. `canonical`: weights lie as [o, c, i, j],
    else [o, i, j, c]. `start_a`, `start_b`: where the factors begin in their memory; `upstream` counts the channels of the
    gradient by the result as it lies in memory. `rank`: how many axes the result has.
    """

    kind: Kind
    units: Units
    dtype: str
    inputs: int
    outputs: int
    kernel: Pair
    source: tuple[int, int, int]
    grid: Pair
    move: Pair = (1, 1)
    shift: Pair = (0, 0)
    step: Pair = (1, 1)
    phases: Pair = (1, 1)
    result: Pair = (1, 1)
    offset: Pair = (0, 0)
    groups: int = 1
    canonical: bool = False
    start_a: int = 0
    start_b: int = 0
    upstream: int = 0
    rank: int = 4

    @property
    def pieces(self) -> int:
        """Groups times phases."""
        return self.groups * self.phases[0] * self.phases[1]

    @property
    def positions(self) -> int:
        """Positions of one sample."""
        return self.grid[0] * self.grid[1]

    @property
    def taps(self) -> int:
        """Elements of the kernel."""
        return self.kernel[0] * self.kernel[1]

    def m(self, batch: Any) -> Any:
        """Rows of one piece."""
        return self.outputs if self.kind is Kind.BY_WEIGHT else batch * self.positions

    @property
    def n(self) -> int:
        """Columns of one piece."""
        if self.kind is Kind.FORWARD:
            return self.outputs
        return self.inputs * (self.taps if self.kind is Kind.BY_WEIGHT else 1)

    @property
    def channels(self) -> int:
        """Channels that lie side by side along K (of the image, where K counts positions)."""
        return self.outputs if self.kind is Kind.BY_IMAGE else self.inputs

    def k(self, batch: int) -> int:
        """The products that one sum has, on average over the phases."""
        if self.kind is Kind.BY_WEIGHT:
            return batch * self.positions
        return -(-self.taps * self.channels // (self.phases[0] * self.phases[1]))

    @property
    def is_bounded(self) -> bool:
        """Whether some element of the kernel stands beside the source at some position."""
        for axis in (0, 1):
            taps = -(-self.kernel[axis] // self.phases[axis])
            reach = [i * self.step[axis] for i in (0, taps - 1)]
            least = self.shift[axis] + min(reach)
            most = (self.grid[axis] - 1) * self.move[axis] + self.shift[axis] + max(reach)
            if least < 0 or most >= self.source[axis]:
                return True
        return False

    @property
    def is_pointwise(self) -> bool:
        """Whether position and pixel are the same."""
        return self.taps == 1 and self.move == (1, 1) and not self.is_bounded and self.grid == self.source[:2]

    @property
    def vectors(self) -> Pair:
        """How many numbers of each factor lie side by side wherever one copy begins, 16 bytes at most."""
        deep = self.source[2]
        weights = 1 if self.canonical and self.taps > 1 else None
        if self.kind is Kind.FORWARD:
            return self._vector(self.inputs, deep, self.start_a), weights or self._vector(self.taps * self.inputs)
        if self.kind is Kind.BY_IMAGE:
            return self._vector(self.outputs, deep, self.start_a), weights or self._vector(self.inputs)
        return self._vector(self.outputs, self.upstream, self.start_a), self._vector(self.inputs, deep, self.start_b)

    def _vector(self, *lengths: int) -> int:
        vector = 16 // SIZES[self.dtype]
        while any(length % vector for length in lengths):
            vector //= 2
        return vector


def problem_of(anchor: Value, parts: Mapping[Value, Part]) -> Problem | None:
    """The product that an anchor computes, some of its operands being parts of larger tensors; None where it is no good one."""
    op = anchor.op
    if not isinstance(op, Convolution | LinearOp) or op.block > 1:
        return None
    a, b = factors(anchor)
    dtype = a.type.dtype
    place_a, place_b = _channels(a, parts), _channels(b, parts)
    if dtype.value not in SIZES or b.type.dtype is not dtype or place_a is None or place_b is None:
        return None
    (deep_a, start_a), (deep_b, start_b) = place_a, place_b
    units = {"float16": Units.FLOAT16, "bfloat16": Units.BFLOAT16}.get(dtype.value, Units.SCALAR)
    if units is Units.SCALAR and op.bits <= TF32_BITS:
        units = Units.TF32
    by_weight = isinstance(op, Conv2dWeightGradient | LinearWeightGradient)
    source = deep_b if by_weight else deep_a
    memory: dict[str, Any] = {
        "units": units,
        "dtype": dtype.value,
        "start_a": start_a,
        "start_b": start_b,
        "upstream": deep_a if by_weight else 0,
        "rank": anchor.type.rank,
    }
    return _linear(op, anchor, source, memory) if isinstance(op, LinearOp) else _convolution(op, anchor, source, memory)


def factors(anchor: Value) -> tuple[Value, Value]:
    """The operands that the rows and the columns of the product are made of."""
    first, second = anchor.operands
    return (second, first) if isinstance(anchor.op, Conv2dWeightGradient | LinearWeightGradient) else (first, second)


def _linear(op: LinearOp, anchor: Value, source: int, memory: Mapping[str, Any]) -> Problem:
    inputs = anchor.type.shape[1] if isinstance(op, LinearInputGradient) else anchor.operands[0].type.shape[1]
    assert isinstance(inputs, int)
    kind = Kind.FORWARD if isinstance(op, Linear) else Kind.BY_WEIGHT
    if isinstance(op, LinearInputGradient):
        kind = Kind.BY_IMAGE
    return Problem(
        kind, inputs=inputs, outputs=op.features, kernel=(1, 1), source=(1, 1, source), grid=(1, 1), **memory
    )


def _convolution(op: Convolution, anchor: Value, source: int, memory: Mapping[str, Any]) -> Problem | None:
    image = anchor if isinstance(op, Conv2dInputGradient) else anchor.operands[0]
    height, width, channels = static(image.type.shape[1:])
    inputs, outputs = channels // op.groups, op.channels // op.groups
    if op.groups > 1 and min(inputs, outputs) < FEWEST_CHANNELS:
        return None
    size = op.output_size(height, width)
    top, left = op.padding[:2]
    shared: dict[str, Any] = {
        "inputs": inputs,
        "outputs": outputs,
        "kernel": op.kernel,
        "groups": op.groups,
        "canonical": op.block == 0,
    }
    if isinstance(op, Conv2dInputGradient) and op.stride == (1, 1):
        return Problem(
            Kind.BY_IMAGE,
            source=(*size, source),
            grid=(height, width),
            shift=(top, left),
            step=(-op.dilation[0], -op.dilation[1]),
            result=(height, width),
            **shared,
            **memory,
        )
    if isinstance(op, Conv2dInputGradient):  # h + top = s·q + r: dx[h] = Σ_i dy[q - i] · w[r + s·i]
        if op.dilation != (1, 1):
            return None
        down, across = op.stride
        first = top // down, left // across
        return Problem(
            Kind.BY_IMAGE,
            source=(*size, source),
            grid=((height - 1 + top) // down - first[0] + 1, (width - 1 + left) // across - first[1] + 1),
            shift=first,
            step=(-1, -1),
            phases=op.stride,
            result=(height, width),
            offset=(first[0] * down - top, first[1] * across - left),
            **shared,
            **memory,
        )
    return Problem(
        Kind.FORWARD if isinstance(op, Conv2d) else Kind.BY_WEIGHT,
        source=(height, width, source),
        grid=size,
        move=op.stride,
        shift=(-top, -left),
        step=op.dilation,
        result=size,
        **shared,
        **memory,
    )


def _channels(value: Value, parts: Mapping[Value, Part]) -> tuple[int, int] | None:
    """How many channels lie side by side where a tensor lies, and the first of its own; None where it is cut otherwise."""
    part = parts.get(value)
    if part is None:
        last = value.type.shape[-1]
        return (last, 0) if isinstance(last, int) else None
    last = part.shape[-1]
    return (last, part.start) if isinstance(last, int) and part.axis == len(part.shape) - 1 else None
