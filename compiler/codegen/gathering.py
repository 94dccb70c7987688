"""Vectors read from places all over: each such read of 32-bit numbers becomes one gather instruction.

The code generator for LLVM reads lane by lane where the places do not follow each other, which takes two instructions for each
to get a place out of a register and two to put the number in. A rule names the tensors that are read so (`mark_gathered`);
`insert_gathers` turns the reads into an operator whose definition is LLVM's gather: one instruction where the processor has it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import Schedule

from dlc.compiler.codegen.intrinsics import LANES, pure_operator, with_import

_MARK = "dlc.gathered"
_NAME = "dlc_gather"
_OP = f"tirx.{_NAME}"


def register() -> None:
    """Makes the operator known to the compiler."""
    _op()


def mark_gathered(schedule: Schedule, loop: Any, source: str) -> None:
    """Says that a loop reads the tensor of a name, whose elements have 32 bits, at places that do not follow each other."""
    schedule.annotate(loop, _MARK, source)


def insert_gathers(function: Any) -> Any:
    """The function with the reads of its marked loops turned into gathers."""
    found: list[str] = []

    def gathered(load: Any) -> Any:
        return _gather(load) if load.source.name == found[-1] else load

    def rewrite(loop: Any) -> Any:
        if _MARK not in loop.annotations:
            return loop
        found.append(str(loop.annotations[_MARK]))
        body = tvm_ffi.structural_map(loop.body, (TensorLoad, gathered))
        kept = {k: v for k, v in loop.annotations.items() if k != _MARK}
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, None, kept)

    body = tvm_ffi.structural_map(function.body, (tirx.For, rewrite))
    return with_import(function.with_body(body), _definitions()) if found else function


def _gather(load: Any) -> Any:
    """The read of an element, counted from the start of its plane, which all lanes share."""
    *outer, row, column = load.indices
    start = tirx.address_of(tirx.BufferLoad(load.source, [*outer, 0, 0]))
    place = _short(row) * int(load.source.ty.shape[-1]) + _short(column)
    return tirx.call_intrin(str(load.ty.dtype), _op(), start, place)


def _short(index: Any) -> Any:
    """An index of 32 bits: gathers of these take half as many instructions."""
    while isinstance(index, tirx.Cast) and str(index.value.ty.dtype) == "int32":
        index = index.value
    return index if str(index.ty.dtype) == "int32" else tirx.Cast("int32", index)


@cache
def _op() -> Any:
    """The operator (address, place) -> number."""
    return pure_operator(_OP, 2, "the number at a place behind an address", _lower)


def _lower(call: Any) -> Any:
    dtype = str(call.ty.dtype)
    kind, _, lanes = dtype.partition("x")
    start, place = call.args
    start = getattr(start, "value", start)  # the address once, not in every lane
    return tirx.call_pure_extern(dtype, f"{_NAME}_{kind}_{lanes or 1}", start, place)


@cache
def _definitions() -> str:
    kinds = {"uint32": "i32", "float32": "float"}
    parts = [_define(name, kind, lanes) for name, kind in kinds.items() for lanes in LANES]
    return "\n".join(parts)


def _define(name: str, kind: str, lanes: int) -> str:
    symbol = f"@{_NAME}_{name}_{lanes}"
    if lanes == 1:
        return f"""define linkonce_odr {kind} {symbol}(ptr %b, i32 %i) alwaysinline nounwind {{
  %p = getelementptr {kind}, ptr %b, i32 %i
  %x = load {kind}, ptr %p
  ret {kind} %x
}}"""
    vector = f"<{lanes} x {kind}>"
    suffix = f"v{lanes}{'i32' if kind == 'i32' else 'f32'}.v{lanes}p0"
    mask, pointers = f"<{lanes} x i1>", f"<{lanes} x ptr>"
    return f"""declare {vector} @llvm.masked.gather.{suffix}({pointers}, i32, {mask}, {vector})
define linkonce_odr {vector} {symbol}(ptr %b, <{lanes} x i32> %i) alwaysinline nounwind {{
  %p = getelementptr {kind}, ptr %b, <{lanes} x i32> %i
  %x = call {vector} @llvm.masked.gather.{suffix}({pointers} %p, i32 4, {mask} splat (i1 true), {vector} poison)
  ret {vector} %x
}}"""
