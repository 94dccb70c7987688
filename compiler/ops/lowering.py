"""What an op's `lower` may use: the lowering context and its maths. Codegen implements both over TensorIR.

Ops never import the code generator's library: a lowering is written against these protocols, so that the same formula
gives the numpy reference and the compiled kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from dlc.compiler.ir.types import Dim, DType, N, TensorType
from dlc.compiler.panel import Panel
from dlc.runtime.deferred import np

Expression = Any
"""A scalar: in a kernel an expression with Python's arithmetic, comparison and bit operators; in numpy an array."""

Axis = Any
"""An iteration variable; it can be used in index arithmetic (`+ - * // %`, all rounding to minus infinity)."""


class Tensor(Protocol):
    """An operand or an intermediate result inside a kernel."""

    @property
    def dtype(self) -> str:
        """The element type, by numpy's name."""

    @property
    def shape(self) -> Sequence[Any]:
        """The extents: ints, or the symbolic batch."""

    def __call__(self, *indices: Any) -> Expression:
        """The element at these indices, one per axis (none for a scalar)."""


class Maths(Protocol):
    """Functions on scalars of one element type; `+ - * /`, comparisons, `& | ^ << >>` are Python's operators.

    Python numbers may stand beside floating-point expressions; integers of another type than int32 need `constant`.
    """

    def exp(self, x: Expression) -> Expression:
        """e to the power x."""

    def log(self, x: Expression) -> Expression:
        """Natural logarithm."""

    def sqrt(self, x: Expression) -> Expression:
        """Square root."""

    def round(self, x: Expression, bits: int) -> Expression:
        """x to `bits` significant bits, ties to even."""

    def tanh(self, x: Expression) -> Expression:
        """Hyperbolic tangent."""

    def erf(self, x: Expression) -> Expression:
        """The error function."""

    def power(self, x: Expression, y: Expression) -> Expression:
        """x to the power y."""

    def floor(self, x: Expression) -> Expression:
        """The largest whole number not above x, in x's type."""

    def absolute(self, x: Expression) -> Expression:
        """The magnitude."""

    def maximum(self, x: Expression, y: Expression) -> Expression:
        """The larger one."""

    def minimum(self, x: Expression, y: Expression) -> Expression:
        """The smaller one."""

    def equal(self, x: Expression, y: Expression) -> Expression:
        """Whether both are equal, a boolean (an operator would compare the expressions' identity)."""

    def where(self, condition: Expression, x: Expression, y: Expression) -> Expression:
        """x where the condition holds, else y; both may be evaluated (see `Lowering.guarded`)."""

    def cast(self, x: Expression, dtype: DType) -> Expression:
        """x in another element type; floats to integers round towards zero."""

    def constant(self, value: float | int | bool, dtype: DType) -> Expression:
        """A number of an element type."""

    def let(self, x: Expression, body: Callable[[Expression], Expression]) -> Expression:
        """`body(x)` with x evaluated once, however often `body` uses it."""


class Tasks(Protocol):
    """The part of a convolution by tiles that one task computes: images, rows of tiles, tiles of a row."""

    @property
    def images(self) -> int:
        """Images."""

    @property
    def rows(self) -> int:
        """Rows of tiles."""

    @property
    def wide(self) -> int:
        """Tiles of a row."""

    @property
    def depth(self) -> int:
        """Input channels of which weights are transformed at a time, where tasks do that."""

    def attributes(self) -> dict[str, int]:
        """The whole cut as attributes of a block."""


class GradientTasks(Protocol):
    """The part of a weight's gradient by tiles that one task computes."""

    @property
    def parts(self) -> int:
        """Parts of the images that have sums of their own."""

    def attributes(self) -> dict[str, int]:
        """The whole cut as attributes of a block."""


class Lowering(Protocol):
    """The context `t` of `Op.lower`."""

    @property
    def maths(self) -> Maths:
        """The maths over kernel expressions."""

    @property
    def batch(self) -> Any:
        """The extent that `N` stands for: an int or a symbolic variable."""

    def extent(self, dim: Dim) -> Any:
        """The extent of a graph dimension: `batch` for N, else the int itself."""

    def block(self, channels: int) -> int:
        """Output channels that the target's kernels compute side by side: how many a packed weight's block holds."""

    def columns(self, extent: int | None, block: int) -> int:
        """Rows or columns of a result that one tile holds beside `block` channels; extents are rounded up to it.

        `extent` is None where it is the symbolic batch.
        """

    def vector(self, extent: int) -> int:
        """Neighbouring elements of an axis of this extent that are computed at once: a divisor of it."""

    def is_streamed(self, numbers: int) -> bool:
        """Whether so many float32 numbers are more than the cache of a core holds."""

    def tasks(
        self, result: tuple[int, int], inputs: int, channels: int, kernel: int, tile: int, block: int, inside: bool
    ) -> Tasks:
        """How a convolution by tiles of `tile` x `tile` results is shared out, by its sizes; extents are rounded up to it.

        `inside` says that tasks transform the weights that they need.
        """

    def gradient_tasks(
        self, result: tuple[int, int], inputs: int, channels: int, kernel: int, tile: int, block: int
    ) -> GradientTasks:
        """How the gradient of such a convolution by its weight is shared out; its numbers divide the extents."""

    def panel(self, rows: int, columns: int) -> Panel:
        """The `Panel` for a result of these sizes over paired factors."""

    def panel_of_whole_rows(self, rows: int, columns: int) -> Panel | None:
        """The `Panel` of some whole rows that divide the result, where these follow each other; None where there is none."""

    def panel_of_rows(self, rows: int | None) -> Panel:
        """The `Panel` of a product of matrices with so many rows, None where it is the symbolic batch."""

    def pair(self, x: Expression, y: Expression) -> Expression:
        """Two numbers rounded to bfloat16, in one uint32: x in its lower half."""

    def half_of_pair(self, x: Expression, half: Expression) -> Expression:
        """The number in the lower (0) or upper (1) half of such a uint32, as float32."""

    def copied(self, x: Tensor, copy: Callable[[Tensor], Tensor]) -> Tensor:
        """`copy(x)`, which moves elements and fills with zeros, in the form in which x is stored."""

    def compute(
        self,
        shape: Sequence[Any],
        f: Callable[..., Expression],
        name: str,
        attrs: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """A tensor of `shape` (N allowed) whose element at `indices` is `f(*indices)`.

        `attrs` become block attributes; schedule rules recognise an anchor by `{"dlc.anchor": "conv2d", …}`.
        """

    def reduce_axis(self, extent: Any, name: str) -> Axis:
        """An axis from 0 to `extent` (N allowed) for `sum`, `max` and `min`."""

    def sum(self, x: Expression, axis: Sequence[Axis]) -> Expression:
        """The sum over reduce axes; only as the whole body of a `compute`."""

    def max(self, x: Expression, axis: Sequence[Axis]) -> Expression:
        """The maximum over reduce axes; only as the whole body of a `compute`."""

    def min(self, x: Expression, axis: Sequence[Axis]) -> Expression:
        """The minimum over reduce axes; only as the whole body of a `compute`."""

    def all_of(self, *conditions: Expression) -> Expression:
        """Whether all conditions hold; True without any."""

    def guarded(self, condition: Expression, x: Expression, otherwise: Expression) -> Expression:
        """x where the condition holds, else `otherwise`; x is not evaluated (no element read) where it does not."""

    def constant(self, array: np.ndarray) -> Tensor:
        """A small array known at compile time, as a tensor."""


def static_extent(extent: Any) -> int | None:
    """The number of an extent, or None where it is symbolic."""
    number = getattr(extent, "value", extent)
    return number if isinstance(number, int) else None


def type_of(tensor: Tensor) -> TensorType:
    """The graph's type of a kernel tensor; a symbolic extent is the batch."""
    extents = [static_extent(e) for e in tensor.shape]
    return TensorType(tuple(N if e is None else e for e in extents), DType(str(tensor.dtype)))
