"""Prefetching: weights of a kernel's next block of channels move into the level 2 cache while it computes the present one.

A rule marks, with `mark_streamed_weights`, the loops over the tiles that use one block of weights and the loop over the products
of a tile; `insert_prefetches` turns the marks into instructions. Between them the tiles of a block name every cache line of the
next one, so that memory delivers evenly all the time instead of all at once whenever a new block begins.
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
_SYMBOL = "dlc_prefetch"

# said to touch no memory that the kernel can see: else LLVM writes sums to memory before every one
_DEFINITION = f"""declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
define linkonce_odr void @{_SYMBOL}(ptr %p) alwaysinline nounwind {{
  call void @llvm.prefetch.p0(ptr %p, i32 0, i32 2, i32 1) memory(inaccessiblemem: readwrite)
  ret void
}}"""

LINE = 16
"""float32 numbers in a cache line."""


def mark_streamed_weights(schedule: Schedule, name: str, tiles: Sequence[Any], products: Any) -> None:
    """Marks loops of a kernel: those over the tiles that read one block of weights, and one over products inside.

    `name` tells the marks of one sum from those of others in the same kernel. Each turn of `products` names one cache line.
    """
    for loop in tiles:
        schedule.annotate(loop, _TILES, name)
    schedule.annotate(products, _STREAM, name)


def insert_prefetches(function: Any) -> Any:
    """The function with its marks turned into prefetches of packed weights [block, …, lane]."""
    loops: list[Any] = []
    tvm_ffi.structural_walk(function.body, (tirx.For, loops.append), order="pre")
    tiles: dict[str, list[Any]] = {}
    for loop in loops:
        if _TILES in loop.annotations:
            tiles.setdefault(str(loop.annotations[_TILES]), []).append(loop)

    def rewrite(loop: Any) -> Any:
        if _STREAM not in loop.annotations:
            return loop
        fetch = _fetch(loop, tiles[str(loop.annotations[_STREAM])], function.params)
        body = tirx.SeqStmt([fetch, loop.body]) if fetch is not None else loop.body
        kept = {k: v for k, v in loop.annotations.items() if k != _STREAM}
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, None, kept)

    if not tiles:
        return function
    body = tvm_ffi.structural_map(function.body, (tirx.For, rewrite))
    return with_import(function.with_body(body), _DEFINITION)


def _fetch(products: Any, tiles: Sequence[Any], given: Sequence[Any]) -> Any | None:
    """The prefetch at one turn of a loop over products; None where the weights are no parameter of the kernel's function."""
    inner: list[Any] = []
    tvm_ffi.structural_walk(products.body, (tirx.For, inner.append))
    realizes: list[Any] = []
    tvm_ffi.structural_walk(products.body, (SBlockRealize, realizes.append))
    (realize,) = realizes
    lane = next(loop.loop_var for loop in inner if loop.kind == tirx.ForKind.VECTORIZED)
    values = {axis.var: value for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True)}
    weights = [r for r in loads(realize.block.body.value) if _lies_along(r, values, lane)]
    weight = next((r for r in weights if any(r.source.same_as(tensor) for tensor in given)), None)
    if weight is None:
        return None
    start = {loop.loop_var: tirx.const(0, "int64") for loop in inner}

    def at(index: Any) -> Any:
        return _substitute(_substitute(index, values), start)

    block, *within, _ = map(at, weight.indices)
    sizes = [int(e) for e in weight.source.ty.shape]
    done: Any = tirx.const(0, "int64")  # how far the tiles are with this block, in rows of it
    for loop in tiles:
        done = done * loop.extent + loop.loop_var
    for index, size in zip(within, sizes[1:-1], strict=True):
        done = done * size + index
    turns = math.prod(int(loop.extent) for loop in tiles)
    line = done * (sizes[-1] // LINE) // turns
    zeros = [tirx.const(0, "int64")] * len(within)
    address = tirx.address_of(tirx.BufferLoad(weight.source, [block + 1, *zeros, line * LINE]))
    return tirx.Evaluate(tirx.call_extern("void", _SYMBOL, address))


def _lies_along(load: Any, values: Mapping[Any, Any], lane: Any) -> bool:
    """Whether a load's vectors lie along its last axis."""
    return uses(_substitute(load.indices[-1], values), lane) and len(load.source.ty.shape) > 2


def _substitute(expression: Any, values: Mapping[Any, Any]) -> Any:
    """The expression with variables replaced."""

    def replace(variable: Any) -> Any:
        return next((new for old, new in values.items() if old.same_as(variable)), variable)

    return tvm_ffi.structural_map(expression, (tirx.Var, replace))
