"""A guard against an error of TVM 0.27: it simplifies (f % a + c) // b to (f + c) % a // b, which is wrong where f % a + c >= a.

Its pass FlattenBuffer does so with indices whose loops were fused: rows of images that several threads share have the index
f % height, and strided windows divide it after an offset. Such divisions are written as shifts, which TVM leaves alone.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlockRealize
from tvm.tirx import FloorDiv, FloorMod, IntImm

_PRECISION = 32


def guard_divisions(function: Any) -> Any:
    """The scheduled function with divisions of offset indices of fused loops written so that they stay right."""
    fused: list[Any] = []

    def collect(realize: Any) -> None:
        for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True):
            if _contains_modulo(value):
                fused.append(axis.var)

    tvm_ffi.structural_walk(function.body, (SBlockRealize, collect))
    if not fused:
        return function

    def rewrite(division: Any) -> Any:
        divisor, offset = _number(division.b), _offset(division.a)
        if divisor is None or divisor < 2 or offset % divisor == 0 or not _uses(division.a, fused):
            return division
        return _shifted(division.a, divisor, offset)

    return function.with_body(tvm_ffi.structural_map(function.body, (FloorDiv, rewrite)))


def _shifted(number: Any, divisor: int, offset: int) -> Any:
    """number // divisor by shifting; by a reciprocal in fixed point where the divisor is no power of two."""
    dtype = str(number.ty.dtype)
    if divisor & (divisor - 1) == 0:
        return tirx.shift_right(number, tirx.const(divisor.bit_length() - 1, dtype))
    lift = max(0, -(offset // divisor))  # the reciprocal is right for numbers from 0 to 2^30 / divisor
    wide = (number + tirx.const(lift * divisor, dtype)).astype("int64")
    reciprocal = tirx.const((1 << _PRECISION) // divisor + 1, "int64")
    quotient = tirx.shift_right(wide * reciprocal, tirx.const(_PRECISION, "int64"))
    return (quotient - tirx.const(lift, "int64")).astype(dtype)


def _contains_modulo(expression: Any) -> bool:
    found: list[Any] = []
    tvm_ffi.structural_walk(expression, (FloorMod, found.append))
    return bool(found)


def _uses(expression: Any, variables: list[Any]) -> bool:
    return any(v.same_as(u) for u in tirx.analysis.undefined_vars(expression, []) for v in variables)


def _number(expression: Any) -> int | None:
    return int(expression.value) if isinstance(expression, IntImm) else None


def _offset(expression: Any) -> int:
    """The constant term of a sum."""
    if isinstance(expression, IntImm):
        return int(expression.value)
    if isinstance(expression, tirx.Add):
        return _offset(expression.a) + _offset(expression.b)
    if isinstance(expression, tirx.Sub):
        return _offset(expression.a) - _offset(expression.b)
    return 0
