"""Turning: blocks of numbers in 16 bits transposed in registers, where loops would move them one by one.

A rule marks the outermost of the loops over one block with `mark_planes` or `mark_weights`; `insert_turns` exchanges it for a call of
a function in LLVM's own language, which reads 16 rows of 16 pairs and writes 16 rows: row r gets the pairs r of all rows read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import sym, tirx
from tvm.s_tir import SBlock, SBlockRealize, Schedule

from dlc.compiler.codegen.intrinsics import with_import
from dlc.compiler.codegen.panels import address, substitute, whole
from dlc.compiler.codegen.schedules.cpu.loops import loads

SIDE = 16
"""Rows of a block, and pairs of a row."""

_PAIRS, _NUMBERS = "dlc.turn_pairs", "dlc.turn_numbers"


def mark_planes(schedule: Schedule, loop: Any) -> None:
    """Marks loops over 16 channels and 32 places that write planes [n, plane, channel, place] from pairs of places."""
    schedule.annotate(loop, _PAIRS, 1)


def mark_weights(schedule: Schedule, loop: Any) -> None:
    """Marks loops over 16 pairs and 16 outputs that write half a chunk from float32 rows, one for each output."""
    schedule.annotate(loop, _NUMBERS, 1)


def insert_turns(function: Any) -> Any:
    """The function with its marked loops turned into calls."""
    used: set[str] = set()

    def rewrite(loop: Any) -> Any:
        kind = next((k for k in (_PAIRS, _NUMBERS) if k in loop.annotations), None)
        if kind is None:
            return loop
        used.add(kind)
        return _call(loop, kind)

    body = tvm_ffi.structural_map(function.body, (tirx.For, rewrite))
    if not used:
        return function
    function = function.with_body(body)
    for kind in sorted(used):
        function = with_import(function, _definition(kind))
    return function


def _symbol(kind: str) -> str:
    return kind.replace(".", "_")


def _call(loop: Any, kind: str) -> Any:
    """An opaque block with the call."""
    inner: list[Any] = []
    tvm_ffi.structural_walk(loop, (tirx.For, inner.append))
    realizes: list[Any] = []
    tvm_ffi.structural_walk(loop.body, (SBlockRealize, realizes.append))
    (realize,) = realizes
    store = realize.block.body
    start = {own.loop_var: tirx.const(0, "int64") for own in inner}
    base = [substitute(value, start) for value in realize.iter_values]
    axes = [axis.var for axis in realize.block.iter_vars]
    simplify = sym.Analyzer().simplify

    def at(indices: Sequence[Any], axis: int = -1, further: int = 0) -> list[Any]:
        moved = [b + further if i == axis % len(axes) else b for i, b in enumerate(base)]
        values = dict(zip(axes, moved, strict=True))
        return [simplify(substitute(index, values)) for index in indices]

    read = loads(store.value)[0]
    # a row that is written is a channel, or a pair of a chunk; one that is read a pair of places, or an output
    written, taken = ((-2, 1), (-1, 2)) if kind == _PAIRS else ((-1, SIDE), (-1, 1))
    arguments = [
        address(store.buffer, at(store.indices)),
        address(store.buffer, at(store.indices, *written)),
        address(read.source, at(read.indices)),
        address(read.source, at(read.indices, *taken)),
    ]
    call = tirx.Evaluate(tirx.call_extern("void", _symbol(kind), *arguments))
    reads, writes = [whole(read.source)], [whole(store.buffer)]
    return SBlockRealize([], True, SBlock([], reads, writes, f"{realize.block.name_hint}_turn", call))


def _definition(kind: str) -> str:
    """void f(first row written, second row written, first row read, second row read)."""
    lines = [
        f"define linkonce_odr void @{_symbol(kind)}(ptr %to, ptr %below, ptr %from, ptr %next) alwaysinline nounwind {{",
        "  %a = ptrtoint ptr %to to i64",
        "  %b = ptrtoint ptr %below to i64",
        "  %down = sub i64 %b, %a",
        "  %c = ptrtoint ptr %from to i64",
        "  %d = ptrtoint ptr %next to i64",
        "  %step = sub i64 %d, %c",
    ]
    rows = []
    for r in range(SIDE):
        lines += [f"  %o{r} = mul i64 %step, {r}", f"  %p{r} = getelementptr i8, ptr %from, i64 %o{r}"]
        if kind == _PAIRS:
            lines.append(f"  %r{r} = load <16 x i32>, ptr %p{r}, align 4")
        else:
            lines += [
                f"  %f{r} = load <32 x float>, ptr %p{r}, align 4",
                f"  %h{r} = fptrunc <32 x float> %f{r} to <32 x bfloat>",
                f"  %r{r} = bitcast <32 x bfloat> %h{r} to <16 x i32>",
            ]
        rows.append(f"%r{r}")
    for distance in (1, 2, 4, 8):
        rows = _exchanged(lines, rows, distance)
    for r, row in enumerate(rows):
        lines += [
            f"  %s{r} = mul i64 %down, {r}",
            f"  %q{r} = getelementptr i8, ptr %to, i64 %s{r}",
            f"  store <16 x i32> {row}, ptr %q{r}, align 2",
        ]
    return "\n".join([*lines, "  ret void", "}", ""])


def _exchanged(lines: list[str], rows: list[str], distance: int) -> list[str]:
    """Rows r and r + distance with squares of that side exchanged: a step of a transposition by halves."""
    made = list(rows)
    for r in range(SIDE):
        if r & distance:
            continue
        upper, lower = [], []
        for lane in range(SIDE):
            upper.append(lane if not lane & distance else SIDE + lane - distance)
            lower.append(lane + distance if not lane & distance else SIDE + lane)
        for mask, place in ((upper, r), (lower, r + distance)):
            name = f"%x{distance}_{place}"
            order = ", ".join(f"i32 {m}" for m in mask)
            lines.append(
                f"  {name} = shufflevector <16 x i32> {rows[r]}, <16 x i32> {rows[r + distance]}, <16 x i32> <{order}>"
            )
            made[place] = name
    return made
