"""The lowering context over TVM's tensor expressions: what an op's `lower` writes its computes with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx

from dlc.compiler import panel
from dlc.compiler.choices import ConvolutionCut, Cut, LinearCut
from dlc.compiler.codegen.intrinsics import to_bits
from dlc.compiler.codegen.schedules.cpu import tiles
from dlc.compiler.codegen.schedules.cpu.loops import largest_divisor
from dlc.compiler.codegen.target import CpuTarget, CudaTarget, Target
from dlc.compiler.ir import Dim, DType, N, TensorType
from dlc.compiler.panel import Panel
from dlc.compiler.passes import winograd_gradient_tasks, winograd_tasks

BATCH_NAME = "n"
"""The name of the symbolic batch in kernels."""

BITS = "uint16"
"""The type of bfloat16 in memory, for LLVM's code generator."""

_MOST_CONSTANTS = 256

_CARRIERS = {"int32": "float32", "uint32": "float32", "int64": "float64", "uint64": "float64"}


class TensorMaths:
    """`ops.lowering.Maths` over TensorIR expressions."""

    def exp(self, x: Any) -> Any:
        """e to the power x."""
        return tirx.exp(x)

    def log(self, x: Any) -> Any:
        """Natural logarithm."""
        return tirx.log(x)

    def sqrt(self, x: Any) -> Any:
        """Square root."""
        return tirx.sqrt(x)

    def round(self, x: Any, bits: int) -> Any:
        """x, float32, to `bits` significant bits, ties to even: half of what is lost is added, less one if the last is even."""
        lost = 24 - bits
        whole, one = tirx.reinterpret("uint32", x), tirx.const(1, "uint32")
        last = (whole >> tirx.const(lost, "uint32")) & one
        more = tirx.const((1 << (lost - 1)) - 1, "uint32") + last
        kept = (whole + more) & tirx.const(2**32 - (1 << lost), "uint32")
        return tirx.Select(tirx.EQ(x, x), tirx.reinterpret("float32", kept), x)

    def tanh(self, x: Any) -> Any:
        """Hyperbolic tangent."""
        return tirx.tanh(x)

    def erf(self, x: Any) -> Any:
        """The error function."""
        return tirx.erf(x)

    def power(self, x: Any, y: Any) -> Any:
        """x to the power y."""
        return tirx.power(x, _like(y, x))

    def floor(self, x: Any) -> Any:
        """The largest whole number not above x, in x's type."""
        return tirx.floor(x)

    def absolute(self, x: Any) -> Any:
        """The magnitude."""
        return tirx.abs(x)

    def maximum(self, x: Any, y: Any) -> Any:
        """The larger one; NaN where x is NaN, as one machine instruction does it (TVM's max gives y)."""
        y = _like(y, x)
        return tirx.Select(y > x, y, x)

    def minimum(self, x: Any, y: Any) -> Any:
        """The smaller one; NaN where x is NaN."""
        y = _like(y, x)
        return tirx.Select(y < x, y, x)

    def equal(self, x: Any, y: Any) -> Any:
        """Whether both are equal."""
        return tirx.EQ(x, _like(y, x))

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """x where the condition holds, else y; both are evaluated."""
        if isinstance(x, int | float | bool):
            x = _like(x, y)
        return tirx.Select(condition, x, _like(y, x))

    def cast(self, x: Any, dtype: DType) -> Any:
        """x in another element type."""
        if isinstance(x, int | float | bool):
            return tirx.const(x, dtype.value)
        return x.astype(dtype.value)

    def constant(self, value: float | int | bool, dtype: DType) -> Any:
        """A number of an element type."""
        return tirx.const(value, dtype.value)

    def let(self, x: Any, body: Callable[[Any], Any]) -> Any:
        """`body(x)` with x evaluated once, however often `body` uses it.

        TVM puts the values of integer variables back where they are used; so integers are named by their bits as floats.
        It does not stand variables that are defined inside conditions.
        """
        if isinstance(x, int | float | bool | tirx.Var | tirx.IntImm | tirx.FloatImm):
            return body(x)
        dtype = str(x.ty.dtype)
        if dtype == "bool":
            name = tirx.Var("t", "float32")
            return tirx.Let(name, tirx.Cast("float32", x), body(name > tirx.const(0.5, "float32")))
        if carrier := _CARRIERS.get(dtype):
            name = tirx.Var("t", carrier)
            return tirx.Let(name, tirx.reinterpret(carrier, x), body(tirx.reinterpret(dtype, name)))
        name = tirx.Var("t", dtype)
        return tirx.Let(name, x, body(name))


class BitMaths(TensorMaths):
    """Where bfloat16 is kept as its bits: what is cast to it is such bits."""

    def cast(self, x: Any, dtype: DType) -> Any:
        """x in another element type."""
        if dtype is not DType.BFLOAT16:
            return super().cast(x, dtype)
        return to_bits(super().cast(x, DType.FLOAT32))


@dataclass(frozen=True)
class Widened:
    """A tensor of 16-bit floats whose elements are read as float32. `stored` holds them, bfloat16 for processors as its bits."""

    stored: Any

    @property
    def shape(self) -> Any:
        """The extents."""
        return self.stored.shape

    @property
    def dtype(self) -> str:
        """What its elements are read as."""
        return "float32"

    def __call__(self, *indices: Any) -> Any:
        element = self.stored(*indices)
        if str(self.stored.dtype) != BITS:
            return element.astype("float32")
        return tirx.reinterpret("float32", tirx.Cast("uint32", element) << tirx.const(16, "uint32"))


def _like(value: Any, other: Any) -> Any:
    """A Python number in the element type of the expression beside it."""
    if isinstance(value, int | float | bool) and not isinstance(other, int | float | bool):
        return tirx.const(value, str(other.ty.dtype))
    return value


class Lowering:
    """`ops.lowering.Lowering` for one kernel.

    `batch` is the number of samples, or None for a symbolic one: an int64 variable that the shapes of the kernel's
    buffers define. `target` sets the sizes of tiles; without one, or for a GPU, there are none. `cut` is what measured best for
    the kernel, None where the models choose.
    """

    def __init__(self, batch: int | None = None, target: Target | None = None, cut: Cut | None = None) -> None:
        self._target, self._cut = target, cut
        self.batch: Any = te.var(BATCH_NAME, "int64") if batch is None else batch
        self.maths = BitMaths() if self.stores_bits else TensorMaths()
        self._names: dict[str, int] = {}

    def extent(self, dim: Dim) -> Any:
        """The extent of a graph dimension."""
        return self.batch if dim is N else dim

    def block(self, channels: int) -> int:
        """Output channels that the target's kernels compute side by side."""
        return tiles.weight_block(self._target, channels) if isinstance(self._target, CpuTarget) else 1

    def columns(self, extent: int | None, block: int) -> int:
        """Rows or columns that one tile holds beside `block` channels."""
        if isinstance(self._cut, ConvolutionCut):
            return self._cut.columns
        if isinstance(self._cut, LinearCut):
            return self._cut.rows
        return tiles.column_tile(self._target, extent, block) if isinstance(self._target, CpuTarget) else 1

    def vector(self, extent: int) -> int:
        """Neighbouring elements of an axis that are computed at once."""
        return largest_divisor(extent, self._target.lanes) if isinstance(self._target, CpuTarget) else 1

    def is_streamed(self, numbers: int) -> bool:
        """Whether so many float32 numbers are more than the cache of a core holds."""
        return isinstance(self._target, CpuTarget) and 4 * numbers > self._target.l2

    def tasks(
        self, result: tuple[int, int], inputs: int, channels: int, kernel: int, tile: int, block: int, inside: bool
    ) -> winograd_tasks.Tasks:
        """How a convolution by tiles is shared out."""
        if isinstance(self._cut, winograd_tasks.Tasks):
            return self._cut
        if not isinstance(self._target, CpuTarget):
            return winograd_tasks.Tasks(1, 1, 1, 1, 1, 1, 1, 1, inputs)
        shape = winograd_tasks.Shape(*result, inputs, channels, kernel, block, inside=inside)
        batch = self.batch if isinstance(self.batch, int) else winograd_tasks.SAMPLES
        return winograd_tasks.plan(shape, tile, batch, self._target.machine)[1]

    def gradient_tasks(
        self, result: tuple[int, int], inputs: int, channels: int, kernel: int, tile: int, block: int
    ) -> winograd_gradient_tasks.GradientTasks:
        """How the gradient of a convolution by its weight is shared out."""
        if isinstance(self._target, CpuTarget):
            shape = winograd_gradient_tasks.GradientShape(*result, inputs, channels, kernel, block)
            batch = self.batch if isinstance(self.batch, int) else 1
            tasks = winograd_gradient_tasks.plan_gradient(shape, tile, batch, self._target.machine)[1]
            if tasks is not None:
                return tasks
        return winograd_gradient_tasks.GradientTasks(1, 1, 1, self.vector(inputs), 1)

    def panel(self, rows: int, columns: int) -> Panel:
        """The panel for a result of these sizes."""
        return panel.choose(rows, columns)

    def panel_of_whole_rows(self, rows: int, columns: int) -> Panel | None:
        """The panel of some whole rows that divide the result; None where there is none."""
        return panel.choose_whole_rows(rows, columns)

    def panel_of_rows(self, rows: int | None) -> Panel:
        """The panel of a product of matrices: all rows of a small batch, two tiles where the batch is symbolic."""
        return panel.row_of(2 * panel.MOST_ROWS) if rows is None else panel.choose(1, rows)

    def placeholder(self, type: TensorType, name: str) -> Any:
        """A tensor that the kernel's caller passes."""
        dtype = BITS if self.stores_bits and type.dtype is DType.BFLOAT16 else type.dtype.value
        return te.placeholder(self._shape(type.shape), dtype, self._unique(name))

    @property
    def stores_bits(self) -> bool:
        """Whether bfloat16 is kept as its bits, for a processor."""
        return not isinstance(self._target, CudaTarget)

    def pair(self, x: Any, y: Any) -> Any:
        """Two numbers as bfloat16 in one uint32."""
        low, high = (tirx.Cast("uint32", to_bits(v)) for v in (x, y))
        return low | high << tirx.const(16, "uint32")

    def half_of_pair(self, x: Any, half: Any) -> Any:
        """The number in one half of a pair, as float32."""
        sixteen = tirx.const(16, "uint32")
        return tirx.reinterpret("float32", x >> tirx.Cast("uint32", half) * sixteen << sixteen)

    def copied(self, x: Any, copy: Callable[[Any], Any]) -> Any:
        """`copy(x)`, which moves elements and fills with zeros, in the form in which x is stored."""
        return Widened(copy(x.stored)) if isinstance(x, Widened) else copy(x)

    def readable(self, x: Any, dtype: DType) -> Any:
        """What computed x as ops read it: floats of 16 bits as float32 that has been rounded, other tensors as they are."""
        if not (dtype is DType.BFLOAT16 if self.stores_bits else dtype.is_reduced):
            return x
        stored = BITS if self.stores_bits else dtype.value
        if str(x.dtype) == stored:
            return Widened(x)
        return Widened(self.compute(x.shape, lambda *i: self.maths.cast(x(*i), dtype), "narrowed"))

    def compute(
        self, shape: Sequence[Any], f: Callable[..., Any], name: str, attrs: Mapping[str, Any] | None = None
    ) -> Any:
        """A tensor whose element at `indices` is `f(*indices)`; `attrs` become attributes of its block."""
        extents = self._shape(shape)

        def element(*indices: Any) -> Any:
            # the index of an axis of size 1 is left out of all arithmetic
            return f(*(tirx.const(0, "int64") if _is_one(e) else i for i, e in zip(indices, extents, strict=True)))

        function = element if not (attrs or {}).get("dlc.anchor") else f
        return te.compute(extents, _with_arity(function, len(extents)), self._unique(name), attrs=dict(attrs or {}))

    def reduce_axis(self, extent: Any, name: str) -> Any:
        """An axis from 0 to `extent`."""
        return te.reduce_axis((tirx.const(0, "int64"), self._extent(extent)), self._unique(name))

    def sum(self, x: Any, axis: Sequence[Any]) -> Any:
        """The sum over reduce axes."""
        return te.sum(x, axis=list(axis))

    def max(self, x: Any, axis: Sequence[Any]) -> Any:
        """The maximum over reduce axes."""
        return te.max(x, axis=list(axis))

    def min(self, x: Any, axis: Sequence[Any]) -> Any:
        """The minimum over reduce axes."""
        return te.min(x, axis=list(axis))

    def all_of(self, *conditions: Any) -> Any:
        """Whether all conditions hold; True without any."""
        conditions = tuple(c for c in conditions if c is not True)
        return tirx.all(*conditions) if conditions else tirx.const(True, "bool")

    def guarded(self, condition: Any, x: Any, otherwise: Any) -> Any:
        """x where the condition holds, else `otherwise`; x is not evaluated where it does not."""
        return tirx.if_then_else(condition, x, _like(otherwise, x))

    def constant(self, array: np.ndarray) -> Any:
        """A small array as a tensor: its element at known indices is a number, at variable ones a choice among all."""
        if array.size > _MOST_CONSTANTS:
            raise ValueError(f"a constant of {array.size} elements belongs among the weights")
        flat = array.reshape(-1)

        def element(*indices: Any) -> Any:
            position: Any = 0
            for index, size in zip(indices, array.shape, strict=True):
                position = position * size + index
            if array.size == 1:
                return tirx.const(flat[0].item(), str(array.dtype))
            result = tirx.const(flat[-1].item(), str(array.dtype))
            for k in range(array.size - 2, -1, -1):
                result = tirx.Select(position == k, tirx.const(flat[k].item(), str(array.dtype)), result)
            return result

        return self.compute(array.shape, element, "constant")

    def _extent(self, dim: Any) -> Any:
        dim = self.batch if dim is N else dim
        return tirx.const(dim, "int64") if isinstance(dim, int) else dim

    def _shape(self, shape: Sequence[Any]) -> list[Any]:
        return [self._extent(d) for d in shape]

    def _unique(self, name: str) -> str:
        """Block and buffer names are unique within a kernel."""
        seen = self._names.get(name, 0)
        self._names[name] = seen + 1
        return f"{name}_{seen}" if seen else name


def _is_one(extent: Any) -> bool:
    return isinstance(extent, tirx.IntImm) and int(extent) == 1


def _with_arity(f: Callable[..., Any], rank: int) -> Callable[..., Any]:
    """`f` with as many named arguments as the tensor has axes: TVM counts them and names the axes after them."""
    names = [f"i{k}" for k in range(rank)]
    return eval(f"lambda {', '.join(names)}: f({', '.join(names)})", {"f": f})  # type: ignore[no-any-return]
