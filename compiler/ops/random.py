"""Counter-based random numbers: each element depends only on seed, step, stream and its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dlc.compiler.ir import DType, Fusion, Op, Sample, Shape, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.indexing import ravel, static
from dlc.compiler.ops.lowering import Lowering, Tensor
from dlc.compiler.ops.maths import NumpyMaths

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def threefry(m: Any, key: tuple[Any, Any], counter: tuple[Any, Any]) -> Any:
    """The first word of Threefry-2x32 with 20 rounds, all words uint32.

    Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), section 3.3.
    """

    def word(number: int) -> Any:
        return m.constant(number, DType.UINT32)

    keys = (key[0], key[1], key[0] ^ key[1] ^ word(_PARITY))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = ((y << word(rotation)) | (y >> word(32 - rotation))) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + word(group + 1)
    return x


@dataclass(frozen=True)
class RandomUniform(Op):
    """float32 numbers in [0, 1), multiples of 2⁻²⁴, of a static `shape`, from (seed, step), two uint32 scalars.

    Element i (row-major) is the first word of Threefry-2x32 under the key (seed, step) at the counter (i, `stream`), its
    upper 24 bits divided by 2²⁴: the same bits in numpy and compiled, for any schedule and number of threads. Layers
    have different streams, so their numbers are independent.
    """

    fusion: ClassVar[Fusion] = Fusion.ELEMENTWISE
    shape: Shape
    stream: int

    def infer(self, *operands: TensorType) -> TensorType:
        if any(o != TensorType((), DType.UINT32) for o in operands) or len(operands) != 2:
            raise ShapeError(f"seed and step are {' and '.join(map(str, operands))}; expected scalars of uint32")
        return TensorType(static(self.shape), DType.FLOAT32)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        seed, step = operands
        shape = static(self.shape)
        counter = np.arange(np.prod(shape, dtype=np.int64), dtype=np.uint32).reshape(shape)
        with np.errstate(over="ignore"):
            return np.asarray(self._number(NumpyMaths(), seed, step, counter))

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return None, None

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        seed, step = operands
        shape = static(self.shape)

        def element(*i: Any) -> Any:
            counter = t.maths.cast(ravel(i, shape), DType.UINT32)
            return self._number(t.maths, seed(), step(), counter)

        return t.compute(shape, element, self.name)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        scalar = TensorType((), DType.UINT32)
        shapes: list[tuple[Shape, int]] = [((3, 5, 7), 0), ((33,), 12345), ((), 1)]
        return [
            Sample(cls(shape, stream), (scalar, scalar), integer_high=2**32, differentiable=False)
            for shape, stream in shapes
        ]

    def _number(self, m: Any, seed: Any, step: Any, counter: Any) -> Any:
        bits = threefry(m, (seed, step), (counter, m.constant(self.stream, DType.UINT32)))
        return m.cast(bits >> m.constant(8, DType.UINT32), DType.FLOAT32) * m.constant(2.0**-24, DType.FLOAT32)


def random_uniform(shape: Shape, stream: int, seed: Value, step: Value) -> Value:
    """Uniform numbers in [0, 1) of a static shape; `seed` and `step` are uint32 scalars."""
    return apply(RandomUniform(shape, stream), seed, step)
