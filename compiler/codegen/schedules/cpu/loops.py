"""What the CPU rules share: extents of loops, tile sizes that divide them, work estimates, and the parallel loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Call
from tvm.s_tir import Schedule

WORTH_SHARING = 5_000.0
"""Nanoseconds of work on one core above which a kernel is shared by all: waking the others costs about 1000."""

TASKS = 16
"""Into how many parts work of one kernel is cut where the cut decides the order of sums: fixed, so that results do not
depend on the number of threads."""


def extent(schedule: Schedule, loop: Any) -> int | None:
    """The number of turns of a loop, None where it depends on the batch."""
    return static(schedule.get(loop).extent)


def static(expression: Any) -> int | None:
    """The number that an index expression is, None where it is symbolic."""
    if isinstance(expression, int):
        return expression
    return int(expression.value) if isinstance(expression, tirx.IntImm) else None


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return small + [number // d for d in reversed(small) if d * d != number]


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor that is at most `limit` (at least 1)."""
    return max(d for d in divisors(number) if d <= max(limit, 1))


def vector_width(number: int, lanes: int) -> int:
    """How many neighbours to compute side by side of `number`: a divisor, up to four vectors of the machine's `lanes`.

    Powers of two become whole registers; others up to one vector only half as good, as LLVM cuts their loads and stores.
    """

    def worth(width: int) -> float:
        return width if width & (width - 1) == 0 else width * 0.6

    return max((d for d in divisors(number) if d <= lanes or (d <= 4 * lanes and worth(d) == d)), key=worth)


def vectorize(schedule: Schedule, loop: Any, lanes: int, *, padded: bool = False) -> list[Any]:
    """Makes a loop one of vectors of the machine's width, unrolled. Returns its loops, outermost first.

    LLVM keeps vectors of other widths than powers of two in memory. Where `padded` says that memory behind the loop's end may
    be read and written, the last vector reaches beyond it; else the vectors get shorter until they divide the extent.
    """
    count = extent(schedule, loop)
    if count is None:
        return [loop]
    if count <= lanes:
        schedule.vectorize(loop)
        return [loop]
    width = lanes
    while not padded and count % width:
        width //= 2
    outer, lane = schedule.split(loop, [-(-count // width), width], disable_predication=count % width != 0)
    schedule.unroll(outer)
    if width > 1:
        schedule.vectorize(lane)
    return [outer, lane]


def product(numbers: Iterable[int | None]) -> int:
    """The product; symbolic extents count as 1."""
    result = 1
    for n in numbers:
        result *= 1 if n is None else n
    return result


def spatial_and_reduced(schedule: Schedule, block: Any) -> tuple[list[Any], list[Any]]:
    """A block's loops, split into those of its result's axes and those that it reduces over."""
    loops = schedule.get_loops(block)
    body = schedule.get(block)
    realizations: list[Any] = []

    def visit(node: Any) -> None:
        if type(node).__name__ == "SBlockRealize" and node.block.same_as(body):
            realizations.append(node)

    tvm_ffi.structural_walk(schedule.get(loops[0]) if loops else body, visit)
    reduced_bindings = [
        value
        for realization in realizations
        for value, variable in zip(realization.iter_values, body.iter_vars, strict=True)
        if int(variable.iter_type) != 0
    ]
    is_reduced = [any(uses(value, schedule.get(loop).loop_var) for value in reduced_bindings) for loop in loops]
    spatial = [loop for loop, reduces in zip(loops, is_reduced, strict=True) if not reduces]
    return spatial, [loop for loop, reduces in zip(loops, is_reduced, strict=True) if reduces]


def loads(body: Any) -> list[Any]:
    """The reads of tensors in a statement or expression, every occurrence."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if type(node).__name__ == "TensorLoad":
            found.append(node)

    tvm_ffi.structural_walk(body, visit)
    return found


def uses(expression: Any, variable: Any) -> bool:
    """Whether an expression depends on a variable."""
    return any(v.same_as(variable) for v in tirx.analysis.undefined_vars(expression, []))


def cost(schedule: Schedule, block: Any) -> float:
    """Rough nanoseconds for one element of a block on one core, when vectorised."""
    operations = functions = 0

    def visit(node: Any) -> None:
        nonlocal operations, functions
        if isinstance(node, Call) and "if_then_else" not in str(node.op):
            functions += 1
        elif type(node).__name__ in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Select", "TensorLoad"):
            operations += 1

    body = schedule.get(block).body
    tvm_ffi.structural_walk(getattr(body, "value", body), visit)
    return 0.02 * operations + 0.3 * functions


def share(schedule: Schedule, loops: Sequence[Any], nanoseconds: float) -> Any | None:
    """Fuses the loops (outermost ones of a nest, in order) and makes them parallel where the work is worth it.

    `nanoseconds` is the whole work on one core, of one sample where the batch is symbolic.
    """
    if not loops:
        return None
    symbolic = any(extent(schedule, loop) is None for loop in loops)
    loop = schedule.fuse(*loops) if len(loops) > 1 else loops[0]
    turns = extent(schedule, loop)
    if turns == 1 or (nanoseconds < WORTH_SHARING and not symbolic):
        return None
    schedule.parallel(loop)
    return loop
