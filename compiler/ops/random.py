"""Counter-based random numbers: each element depends only on seed, step, stream and its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dlc.compiler.ir import DType, Fusion, Op, Sample, Shape, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.indexing import ravel, static
from dlc.compiler.ops.lowering import Lowering, Tensor
from dlc.compiler.ops.maths import NumpyMaths
from dlc.runtime.deferred import np

_STEPS = ((16, 0x7FEB352D), (15, 0x846CA68B))


def scramble(m: Any, x: Any, use: Callable[[Any], Any]) -> Any:
    """`use(y)` for the word y that a fixed, well mixing permutation of the uint32 words gives for x.

    Source: C. Wellons, "Prospecting for hash functions" (2018), lowbias32.
    """

    def word(number: int) -> Any:
        return m.constant(number, DType.UINT32)

    def fold(x: Any, number: int) -> Any:
        if number == len(_STEPS):
            return m.let(x ^ (x >> word(16)), use)
        shift, factor = _STEPS[number]
        return m.let((x ^ (x >> word(shift))) * word(factor), lambda y: fold(y, number + 1))

    return m.let(x, lambda x: fold(x, 0))


def random_bits(m: Any, seed: Any, step: Any, stream: int, counter: Any) -> Any:
    """A uint32 word for each counter: P(P(counter + a) ^ b), P being `scramble`.

    The two keys hold the seed, the step and the stream (a construction after Even and Mansour, 1991). Two rounds of three
    shifts fit into any loop; Threefry's twenty rounds made expressions too large for the code generator.
    """
    first, second = _stream_words(stream)

    def word(number: int) -> Any:
        return m.constant(number, DType.UINT32)

    a = (seed ^ word(first)) * word(0x9E3779B1)
    b = step * word(0x85EBCA77) + seed * word(0xC2B2AE3D) + word(second)
    return scramble(m, counter + a, lambda x: scramble(m, x ^ b, lambda y: y))


def _stream_words(stream: int) -> tuple[int, int]:
    """Two unrelated words for a stream's number."""
    with np.errstate(over="ignore"):
        words = scramble(NumpyMaths(), np.array([2 * stream + 1, 2 * stream + 2], np.uint32), lambda x: x)
    return int(words[0]), int(words[1])


@dataclass(frozen=True)
class RandomUniform(Op):
    """float32 numbers in [0, 1), multiples of 2⁻²⁴, of a static `shape`, from (seed, step), two uint32 scalars.

    Element i (row-major) is `random_bits` at counter i, its upper 24 bits divided by 2²⁴: the same bits in numpy and
    compiled, for any schedule and number of threads. Layers have different streams, so their numbers are independent.
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
        bits = random_bits(m, seed, step, self.stream, counter)
        return m.cast(bits >> m.constant(8, DType.UINT32), DType.FLOAT32) * m.constant(2.0**-24, DType.FLOAT32)


def random_uniform(shape: Shape, stream: int, seed: Value, step: Value) -> Value:
    """Uniform numbers in [0, 1) of a static shape; `seed` and `step` are uint32 scalars."""
    return apply(RandomUniform(shape, stream), seed, step)
