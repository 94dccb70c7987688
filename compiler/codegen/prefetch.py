"""Prefetching: what a kernel reads and writes next moves towards the core while it computes.

A rule marks loops over products; `insert_prefetches` turns the marks into instructions, one for each turn of such a loop.

- Weights of the next block of channels go to the level 2 cache (`mark_streamed_weights`). Between them the tiles of a block name every
  cache line of the next one, so that memory delivers evenly all the time instead of all at once whenever a new block begins.
- The lines that a tile's results go to, and those of what is added to them (`mark_results`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlockRealize, Schedule

from dlc.compiler.codegen.intrinsics import with_import
from dlc.compiler.codegen.schedules.cpu.loops import loads, uses

_TILES = "dlc.tiles"
_STREAM = "dlc.stream"
_RESULTS = "dlc.results"
_WEIGHTS, _READ, _WRITE = "dlc_prefetch_weights", "dlc_prefetch_read", "dlc_prefetch_write"
_HINTS = {_WEIGHTS: "i32 0, i32 2", _READ: "i32 0, i32 3", _WRITE: "i32 1, i32 3"}  # for writing or not; 3 is level 1

# said to touch no memory that the kernel can see: else LLVM writes sums to memory before every one
_DEFINITIONS = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)\n" + "\n".join(
    f"""define linkonce_odr void @{name}(ptr %p) alwaysinline nounwind {{
  call void @llvm.prefetch.p0(ptr %p, {hint}, i32 1) memory(inaccessiblemem: readwrite)
  ret void
}}"""
    for name, hint in _HINTS.items()
)

LINE = 16
"""float32 numbers in a cache line."""


def mark_streamed_weights(schedule: Schedule, name: str, tiles: Sequence[Any], products: Any) -> None:
    """Marks loops of a kernel: those over the tiles that read one block of weights, and one over products inside.

    `name` tells the marks of one sum from those of others in the same kernel. Each turn of `products` names one cache line.
    """
    for loop in tiles:
        schedule.annotate(loop, _TILES, name)
    schedule.annotate(products, _STREAM, name)


def mark_results(schedule: Schedule, products: Any, block: str) -> None:
    """Marks a loop over products of a tile whose results, one pixel behind another, the block of that name writes."""
    schedule.annotate(products, _RESULTS, block)


def insert_prefetches(function: Any) -> Any:
    """The function with its marks turned into prefetches."""
    loops: list[Any] = []
    tvm_ffi.structural_walk(function.body, (tirx.For, loops.append), order="pre")
    realizes: list[Any] = []
    tvm_ffi.structural_walk(function.body, (SBlockRealize, realizes.append))
    tiles: dict[str, list[Any]] = {}
    for loop in loops:
        if _TILES in loop.annotations:
            tiles.setdefault(str(loop.annotations[_TILES]), []).append(loop)

    def rewrite(loop: Any) -> Any:
        if _STREAM not in loop.annotations and _RESULTS not in loop.annotations:
            return loop
        sums = _Sums(loop, function.params)
        fetches: list[Any] = []
        if sums.weight is not None and _STREAM in loop.annotations:
            fetches.append(sums.next_weights(tiles[str(loop.annotations[_STREAM])]))
        if sums.weight is not None and _RESULTS in loop.annotations:
            written = next(r for r in realizes if r.block.name_hint == loop.annotations[_RESULTS])
            fetches += sums.results(written, [outer for outer in loops if _holds(outer, written)])
        body = tirx.SeqStmt([*fetches, loop.body]) if fetches else loop.body
        kept = {k: v for k, v in loop.annotations.items() if k not in (_STREAM, _RESULTS)}
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, None, kept)

    if not any(mark in loop.annotations for loop in loops for mark in (_STREAM, _RESULTS)):
        return function
    body = tvm_ffi.structural_map(function.body, (tirx.For, rewrite))
    return with_import(function.with_body(body), _DEFINITIONS)


class _Sums:
    """A loop over the products of a tile, with a packed weight [block, …, lane] of the function's parameters (or None)."""

    def __init__(self, products: Any, given: Sequence[Any]) -> None:
        self.given = given
        inner: list[Any] = []
        tvm_ffi.structural_walk(products.body, (tirx.For, inner.append))
        realizes: list[Any] = []
        tvm_ffi.structural_walk(products.body, (SBlockRealize, realizes.append))
        (realize,) = realizes
        lane = next(loop.loop_var for loop in inner if loop.kind == tirx.ForKind.VECTORIZED)
        values = _values(realize)
        weights = [r for r in loads(realize.block.body.value) if _lies_along(r, values, lane)]
        self.weight = next((r for r in weights if self._is_given(r.source)), None)
        if self.weight is None:
            return
        start = {loop.loop_var: _ZERO for loop in inner}
        self.block, *within, _ = (_substitute(_substitute(i, values), start) for i in self.weight.indices)
        self.sizes = [int(e) for e in self.weight.source.ty.shape]
        self.row: Any = _ZERO  # how many of a tile's products are done
        for index, size in zip(within, self.sizes[1:-1], strict=True):
            self.row = self.row * size + index

    def next_weights(self, tiles: Sequence[Any]) -> Any:
        """The prefetch of a line of the next block: as far in it as the tiles are with this one."""
        assert self.weight is not None
        tile: Any = _ZERO
        for loop in tiles:
            tile = tile * loop.extent + loop.loop_var
        turns = math.prod(int(loop.extent) for loop in tiles)
        done = tile * math.prod(self.sizes[1:-1]) + self.row
        line = done * (self.sizes[-1] // LINE) // turns
        zeros = [_ZERO] * (len(self.sizes) - 2)
        return _prefetch(_WEIGHTS, self.weight.source, [self.block + 1, *zeros, line * LINE])

    def results(self, realize: Any, loops: Sequence[Any]) -> list[Any]:
        """Prefetches of a line of the results, and of the same line of what is read at the same place.

        `loops` are those around the block that writes them; those of the tile are the ones that are unrolled or vectors.
        """
        values, store = _values(realize), realize.block.body
        own = {loop.loop_var: loop for loop in loops if loop.kind in (tirx.ForKind.UNROLLED, tirx.ForKind.VECTORIZED)}
        start = dict.fromkeys(own, _ZERO)
        at = [_substitute(_substitute(i, values), start) for i in store.indices]
        deep = math.prod(int(loop.extent) for v, loop in own.items() if uses(_substitute(store.indices[-1], values), v))
        wide = math.prod(int(loop.extent) for v, loop in own.items() if uses(_substitute(store.indices[-2], values), v))
        each = -(-deep // LINE)
        line = self.row * (wide * each) // math.prod(self.sizes[1:-1])
        *front, column, channel = at
        place = [*front, column + line // each, channel + line % each * LINE]
        same = [r for r in loads(store.value) if self._is_given(r.source) and _same(r.indices, store.indices, values)]
        same = list({hash(r.source): r for r in same}.values())
        reads = [_prefetch(_READ, r.source, place) for r in same]
        return [*reads, *([_prefetch(_WRITE, store.buffer, place)] if self._is_given(store.buffer) else [])]

    def _is_given(self, tensor: Any) -> bool:
        return any(tensor.same_as(parameter) for parameter in self.given)


_ZERO = tirx.const(0, "int64")


def _prefetch(symbol: str, tensor: Any, indices: Sequence[Any]) -> Any:
    return tirx.Evaluate(tirx.call_extern("void", symbol, tirx.address_of(tirx.BufferLoad(tensor, list(indices)))))


def _values(realize: Any) -> dict[Any, Any]:
    """What a block's axes are bound to."""
    return {axis.var: value for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True)}


def _holds(loop: Any, realize: Any) -> bool:
    found: list[Any] = []

    def visit(node: Any) -> None:
        if node.block.same_as(realize.block):
            found.append(node)

    tvm_ffi.structural_walk(loop.body, (SBlockRealize, visit))
    return bool(found)


def _same(indices: Sequence[Any], others: Sequence[Any], values: Mapping[Any, Any]) -> bool:
    """Whether indices are equal once variables have their values."""
    pairs = zip(indices, others, strict=False)
    return len(indices) == len(others) and all(
        tvm_ffi.structural_equal(_substitute(a, values), _substitute(b, values)) for a, b in pairs
    )


def _lies_along(load: Any, values: Mapping[Any, Any], lane: Any) -> bool:
    """Whether a load's vectors lie along its last axis."""
    return uses(_substitute(load.indices[-1], values), lane) and len(load.source.ty.shape) > 2


def _substitute(expression: Any, values: Mapping[Any, Any]) -> Any:
    """The expression with variables replaced."""

    def replace(variable: Any) -> Any:
        return next((new for old, new in values.items() if old.same_as(variable)), variable)

    return tvm_ffi.structural_map(expression, (tirx.Var, replace))
