"""The kernel forms of pooling and its gradients: folds over windows, and sums over the windows that hold an element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dlc.compiler.ir.types import DType
from dlc.compiler.ops.lowering import Expression, Lowering, Tensor

PART = {"dlc.part": "window"}
"""Marks the blocks that fold over windows; the last one is the kernel's anchor."""

ANCHOR = {**PART, "dlc.anchor": "pool"}


@dataclass(frozen=True)
class Span:
    """One axis of a pool: the image's extent, the number of windows, their size and stride, and the padding."""

    size: int
    windows: int
    kernel: int
    stride: int
    near: int
    far: int

    def place(self, window: Any, offset: Any) -> Any:
        """Where an element of a window lies in the image."""
        return window * self.stride + offset - self.near if self.near else window * self.stride + offset

    def inside(self, window: Any, offset: Any) -> list[Any]:
        """The conditions for an element of a window to lie in the image; none where every window's does."""
        low = offset if isinstance(offset, int) else 0
        high = offset if isinstance(offset, int) else self.kernel - 1
        at = self.place(window, offset)
        conditions = [at >= 0] if low < self.near else []
        if (self.windows - 1) * self.stride - self.near + high >= self.size:
            conditions.append(at < self.size)
        return conditions

    def count(self, t: Lowering, window: Any, count_padding: bool) -> Any:
        """How many of a window's elements count for a mean: an int where all windows agree."""
        end = self.size + self.far if count_padding else self.size
        hangs_over = (self.windows - 1) * self.stride - self.near + self.kernel > end
        cut = self.near > 0 and not count_padding
        if not hangs_over and not cut:
            return self.kernel
        start = self.place(window, 0)
        stop = t.maths.minimum(start + self.kernel, end) if hangs_over else start + self.kernel
        return stop - (t.maths.maximum(start, 0) if cut else start)

    @property
    def candidates(self) -> int:
        """The most windows that one element of the image can be in."""
        return -(-self.kernel // self.stride)

    def window_of(self, at: Any, candidate: int) -> tuple[Any, Any, list[Any]]:
        """The candidate-th last window that may hold an element, the element's offset in it, and when it does hold it."""
        moved = at + self.near if self.near else at
        window = moved // self.stride - candidate if candidate else moved // self.stride
        offset = moved % self.stride + candidate * self.stride
        conditions = [window >= 0] if candidate else []
        if (self.size - 1 + self.near) // self.stride - candidate >= self.windows:
            conditions.append(window < self.windows)
        if (candidate + 1) * self.stride > self.kernel:
            conditions.append(offset < self.kernel)
        return window, offset, conditions


@dataclass(frozen=True)
class Windows:
    """Both axes of a pool over an image, and the number of channels."""

    rows: Span
    columns: Span
    count_padding: bool

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """The places in a window, in row-major order."""
        return [(i, j) for i in range(self.rows.kernel) for j in range(self.columns.kernel)]

    def element(self, t: Lowering, x: Tensor, at: tuple[Any, ...], i: Any, j: Any, outside: Expression) -> Expression:
        """The element at place (i, j) of the window at (n, window row, window column, channel)."""
        n, y, z, c = at
        conditions = [*self.rows.inside(y, i), *self.columns.inside(z, j)]
        value = x(n, self.rows.place(y, i), self.columns.place(z, j), c)
        return t.guarded(t.all_of(*conditions), value, outside) if conditions else value

    def divisor(self, t: Lowering, y: Any, z: Any) -> Any:
        """What the sum of a window is divided by: an int where all agree, else a float32 expression."""
        counts = (self.rows.count(t, y, self.count_padding), self.columns.count(t, z, self.count_padding))
        if all(isinstance(count, int) for count in counts):
            return counts[0] * counts[1]
        return t.maths.cast(counts[0] * counts[1], DType.FLOAT32)


def extremum(t: Lowering, windows: Windows, x: Tensor, *, largest: bool, attributes: dict[str, Any] = ANCHOR) -> Tensor:
    """The largest or smallest element of each window."""
    outside = t.maths.constant(float("-inf") if largest else float("inf"), DType(str(x.dtype)))
    i, j = t.reduce_axis(windows.rows.kernel, "i"), t.reduce_axis(windows.columns.kernel, "j")
    fold = t.max if largest else t.min
    shape = (x.shape[0], windows.rows.windows, windows.columns.windows, x.shape[3])
    return t.compute(shape, lambda *at: fold(windows.element(t, x, at, i, j, outside), [i, j]), "extremum", attributes)


def mean(t: Lowering, windows: Windows, x: Tensor) -> Tensor:
    """The mean of each window."""
    zero = t.maths.constant(0.0, DType(str(x.dtype)))
    i, j = t.reduce_axis(windows.rows.kernel, "i"), t.reduce_axis(windows.columns.kernel, "j")
    shape = (x.shape[0], windows.rows.windows, windows.columns.windows, x.shape[3])
    total = t.compute(shape, lambda *at: t.sum(windows.element(t, x, at, i, j, zero), [i, j]), "total", ANCHOR)

    def scaled(*at: Any) -> Expression:
        divisor = windows.divisor(t, at[1], at[2])
        return total(*at) * (1.0 / divisor) if isinstance(divisor, int) else total(*at) / divisor

    return t.compute(shape, scaled, "mean")


def mean_gradient(t: Lowering, windows: Windows, upstream: Tensor) -> Tensor:
    """To each element of the image, its share of the gradients of the windows that it is in."""

    def share(n: Any, y: Any, z: Any, c: Any) -> Expression:
        divisor = windows.divisor(t, y, z)
        value = upstream(n, y, z, c)
        return value * (1.0 / divisor) if isinstance(divisor, int) else value / divisor

    return _gather(t, windows, upstream, lambda at, y, z, offset: share(at[0], y, z, at[3]))


def extremum_gradient(t: Lowering, windows: Windows, x: Tensor, upstream: Tensor, *, largest: bool) -> Tensor:
    """To each window's first extremum in row-major order, the window's gradient."""
    m = t.maths
    dtype = DType(str(x.dtype))
    best = extremum(t, windows, x, largest=largest, attributes=PART)
    i, j = t.reduce_axis(windows.rows.kernel, "i"), t.reduce_axis(windows.columns.kernel, "j")
    nowhere = m.constant(len(windows.offsets), DType.INT32)
    outside = m.constant(float("nan"), dtype)

    def first(*at: Any) -> Expression:
        here = m.equal(windows.element(t, x, at, i, j, outside), best(*at))
        return t.min(m.where(here, m.cast(i * windows.columns.kernel + j, DType.INT32), nowhere), [i, j])

    place = t.compute(best.shape, first, "place", PART)

    def routed(at: tuple[Any, ...], y: Any, z: Any, offset: Any) -> Expression:
        # as floats: TVM's analysis of vectors fails at an equality of integers
        chosen = m.equal(m.cast(place(at[0], y, z, at[3]), DType.FLOAT32), m.cast(offset, DType.FLOAT32))
        return m.where(chosen, upstream(at[0], y, z, at[3]), m.constant(0.0, dtype))

    return _gather(t, windows, upstream, routed)


def first_place(t: Lowering, windows: Windows, x: Tensor, best: Tensor) -> Tensor:
    """Which element of its window, in row-major order, is the first to equal the window's `best`: a byte each. Where none
    does, the number of elements."""
    m = t.maths
    i, j = t.reduce_axis(windows.rows.kernel, "i"), t.reduce_axis(windows.columns.kernel, "j")
    nowhere = m.constant(len(windows.offsets), DType.INT32)
    outside = m.constant(float("nan"), DType(str(x.dtype)))

    def first(*at: Any) -> Expression:
        here = m.equal(windows.element(t, x, at, i, j, outside), best(*at))
        return t.min(m.where(here, m.cast(i * windows.columns.kernel + j, DType.INT32), nowhere), [i, j])

    place = t.compute(best.shape, first, "place", ANCHOR)
    return t.compute(best.shape, lambda *at: m.cast(place(*at), DType.UINT8), "byte")


def placed_gradient(t: Lowering, windows: Windows, places: Tensor, upstream: Tensor) -> Tensor:
    """To the element of each window that `places` names, the window's gradient."""
    m = t.maths
    zero = m.constant(0.0, DType(str(upstream.dtype)))

    def routed(at: tuple[Any, ...], y: Any, z: Any, offset: Any) -> Expression:
        # as floats: TVM's analysis of vectors fails at an equality of integers
        chosen = m.equal(m.cast(places(at[0], y, z, at[3]), DType.FLOAT32), m.cast(offset, DType.FLOAT32))
        return m.where(chosen, upstream(at[0], y, z, at[3]), zero)

    return _gather(t, windows, upstream, routed)


def _gather(
    t: Lowering, windows: Windows, upstream: Tensor, part: Callable[[tuple[Any, ...], Any, Any, Any], Expression]
) -> Tensor:
    """For each element of the image the sum of `part(place, window row, window column, offset)` over its windows."""
    rows, columns = windows.rows, windows.columns
    zero = t.maths.constant(0.0, DType(str(upstream.dtype)))

    def body(*at: Any) -> Expression:
        total: Expression = None
        for a in range(rows.candidates):
            for b in range(columns.candidates):
                y, i, row_conditions = rows.window_of(at[1], a)
                z, j, column_conditions = columns.window_of(at[2], b)
                value = part(at, y, z, i * columns.kernel + j)
                conditions = [*row_conditions, *column_conditions]
                if conditions:
                    value = t.guarded(t.all_of(*conditions), value, zero)
                total = value if total is None else total + value
        return total

    attributes = ANCHOR | {"dlc.stride": columns.stride}
    return t.compute((upstream.shape[0], rows.size, columns.size, upstream.shape[3]), body, "pool_gradient", attributes)
