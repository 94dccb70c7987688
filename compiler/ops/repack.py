"""Ops between the canonical and the packed form of a weight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dlc.compiler.ir import Fusion, Op, Sample, ShapeError, TensorType, Value, apply
from dlc.compiler.ops.base import float_type
from dlc.compiler.ops.indexing import ravel, show, unravel
from dlc.compiler.ops.lowering import Lowering, Tensor, type_of
from dlc.runtime.deferred import np
from dlc.runtime.layout import Layout


@dataclass(frozen=True)
class Repack(Op):
    """A canonical weight in the packed form of `layout`."""

    fusion: ClassVar[Fusion] = Fusion.INJECTIVE
    layout: Layout

    def infer(self, *operands: TensorType) -> TensorType:
        return _checked(operands[0], self.layout.canonical_shape, self.layout.packed)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return self.layout.pack(operands[0])

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (apply(Unpack(self.layout), upstream),)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (x,) = operands
        layout = self.layout
        turned = tuple(layout.split[a] for a in layout.order)

        def element(*i: Any) -> Any:
            places = unravel(ravel(i, layout.packed), turned)
            split = [places[layout.order.index(a)] for a in range(len(places))]
            padded = unravel(ravel(split, layout.split), layout.padded)
            inside = [p < n for p, n, m in zip(padded, layout.view, layout.padded, strict=True) if n != m]
            value = x(*unravel(ravel(padded, layout.view), layout.canonical_shape))
            return t.guarded(t.all_of(*inside), value, t.maths.constant(0.0, type_of(x).dtype)) if inside else value

        return t.compute(layout.packed, element, self.name)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [Sample(cls(layout), (float_type(*layout.canonical_shape),)) for layout in _cases()]


@dataclass(frozen=True)
class Unpack(Op):
    """A packed weight in its canonical form; what the packing padded is dropped."""

    fusion: ClassVar[Fusion] = Fusion.INJECTIVE
    layout: Layout

    def infer(self, *operands: TensorType) -> TensorType:
        return _checked(operands[0], self.layout.packed, self.layout.canonical_shape)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return self.layout.unpack(operands[0])

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (apply(Repack(self.layout), upstream),)

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        (x,) = operands
        layout = self.layout
        turned = tuple(layout.split[a] for a in layout.order)

        def element(*i: Any) -> Any:
            padded = unravel(ravel(i, layout.canonical_shape), layout.view)
            split = unravel(ravel(padded, layout.padded), layout.split)
            return x(*unravel(ravel([split[a] for a in layout.order], turned), layout.packed))

        return t.compute(layout.canonical_shape, element, self.name)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [Sample(cls(layout), (float_type(*layout.packed),)) for layout in _cases()]


def _checked(x: TensorType, have: tuple[int, ...], give: tuple[int, ...]) -> TensorType:
    if x.shape != have:
        raise ShapeError(f"the weight is {show(x.shape)}; expected {show(have)}")
    return x.with_shape(*give)


def _cases() -> Iterable[Layout]:
    """A convolution's weight by blocks of 4 outputs, and a linear one whose columns go from C, H, W to H, W, C."""
    yield Layout((6, 3, 3, 2), (6, 3, 3, 2), (8, 3, 3, 2), (2, 4, 3, 3, 2), (0, 3, 4, 2, 1), (2, 3, 2, 3, 4))
    yield Layout((5, 12), (5, 3, 2, 2), (8, 3, 2, 2), (2, 4, 3, 2, 2), (0, 3, 4, 2, 1), (2, 12, 4))
    yield Layout((4, 6), (4, 6), (4, 6), (4, 6), (1, 0), (6, 4))


def repack(x: Value, layout: Layout) -> Value:
    """A canonical weight, packed."""
    return apply(Repack(layout), x)


def unpack(x: Value, layout: Layout) -> Value:
    """A packed weight, canonical."""
    return apply(Unpack(layout), x)
