"""The gradient of a strided convolution by its image as convolutions of stride 1, one for each residue, merged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from dlc.compiler.ir import DType, Fusion, N, Op, Sample, ShapeError, TensorType
from dlc.compiler.ops.base import float_type
from dlc.compiler.ops.convolution import Conv2d, Conv2dInputGradient, Pair
from dlc.compiler.ops.indexing import show
from dlc.compiler.ops.lowering import Lowering, Tensor
from dlc.compiler.ops.paired import can_pair
from dlc.compiler.ops.pairs import cases
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Phase:
    """A convolution of the gradient by the result that gives the one by the image, or every `step`th row and column of it.

    It takes the kernel's rows and columns `first`, `first` + `step`, … of the forward weight, turned.
    """

    of: Conv2d
    first: Pair
    step: Pair


def phases(op: Conv2dInputGradient) -> tuple[Phase, ...] | None:
    """The convolutions that make a gradient by the image, one for each residue of row and column by the stride.

    None where one of them has no paired form.
    """
    if op.dilation != (1, 1) and op.stride != (1, 1):
        return None
    size, start = merged_size(op)
    found = []
    for first in np.ndindex(*(min(s, k) for s, k in zip(op.stride, op.kernel, strict=True))):
        kernel = tuple(-(-(k - f) // s) for k, f, s in zip(op.kernel, first, op.stride, strict=True))
        reach = tuple((k - 1) * d for k, d in zip(kernel, op.dilation, strict=True))
        near = tuple(r - s for r, s in zip(reach, start, strict=True))
        given = op.output_size(*op.input_size[:2])
        far = tuple(n + r - b - g for n, r, b, g in zip(size, reach, near, given, strict=True))
        of = Conv2d(op.input_size[2], kernel, (1, 1), (*near, *far), op.dilation, op.groups)
        if min(*near, *far) < 0 or not can_pair(of, op.channels):
            return None
        found.append(Phase(of, first, op.stride))
    return tuple(found)


def merged_size(op: Conv2dInputGradient) -> tuple[Pair, Pair]:
    """Rows and columns of a phase, and the first ones in the padded image.

    With h + top = stride·q + r, kernel rows r, r + stride, … reach row h; it is row q - start of phase r.
    """
    if op.stride == (1, 1):
        return op.input_size[:2], op.padding[:2]
    start = (op.padding[0] // op.stride[0], op.padding[1] // op.stride[1])
    rows, columns = (
        (n - 1 + p) // s - q + 1 for n, p, s, q in zip(op.input_size[:2], op.padding[:2], op.stride, start, strict=True)
    )
    return (rows, columns), start


@dataclass(frozen=True)
class MergePhases(Op):
    """The gradient by the image from its phases, in the order of `phases`; what no phase reaches is zero."""

    fusion: ClassVar[Fusion] = Fusion.INJECTIVE
    of: Conv2dInputGradient

    @property
    def _residues(self) -> list[tuple[int, ...]]:
        return list(np.ndindex(*(min(s, k) for s, k in zip(self.of.stride, self.of.kernel, strict=True))))

    def infer(self, *operands: TensorType) -> TensorType:
        size, _ = merged_size(self.of)
        for phase in operands:
            if phase.shape[1:] != (*size, self.of.input_size[2]) or len(operands) != len(self._residues):
                raise ShapeError(f"a phase is {show(phase.shape)}; expected {len(self._residues)} of {size}")
        return operands[0].with_shape(operands[0].shape[0], *self.of.input_size)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        (rows, columns), start = merged_size(self.of)
        (down, across), (top, left) = self.of.stride, self.of.padding[:2]
        count, channels = operands[0].shape[0], operands[0].shape[3]
        whole = np.zeros((count, rows * down, columns * across, channels), operands[0].dtype)
        for (row, column), phase in zip(self._residues, operands, strict=True):
            whole[:, row::down, column::across] = phase
        height, width, _ = self.of.input_size
        above, before = top - start[0] * down, left - start[1] * across
        return np.ascontiguousarray(whole[:, above : above + height, before : before + width])

    def lower(self, t: Lowering, *operands: Tensor) -> Tensor:
        _, start = merged_size(self.of)
        (down, across), (top, left) = self.of.stride, self.of.padding[:2]

        def element(n: Any, y: Any, x: Any, c: Any) -> Any:
            y, x = y + top, x + left
            value: Any = t.maths.constant(0.0, DType.FLOAT32)
            for (row, column), phase in zip(self._residues, operands, strict=True):
                hit = t.all_of(t.maths.equal(y % down, row), t.maths.equal(x % across, column))
                value = t.maths.where(hit, phase(n, y // down - start[0], x // across - start[1], c), value)
            return value

        return t.compute((operands[0].shape[0], *self.of.input_size), element, self.name)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for of, (height, width, inputs) in cases():
            op = Conv2dInputGradient(**of.attributes(), input_size=(height, width, inputs))
            if of.stride != (1, 1) and of.dilation == (1, 1):
                made = cls(op)
                phase = float_type(N, *merged_size(op)[0], inputs)
                yield Sample(made, (phase,) * len(made._residues), differentiable=False)
