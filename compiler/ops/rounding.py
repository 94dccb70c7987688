"""Rounding to fewer significant bits: what narrower element types keep of a float32, without their range."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dlc.compiler.ir import Sample, Value, apply
from dlc.compiler.ops.base import Elementwise, unary_samples


@dataclass(frozen=True)
class Round(Elementwise):
    """x to `bits` significant bits, the nearest, of two equally near the even one; 8 is bfloat16, 11 tf32 and float16.

    Exponents are not bounded, infinities and NaN stay. The gradient passes as if nothing had been rounded.
    """

    bits: int

    def formula(self, m: Any, x: Any) -> Any:
        return m.round(x, self.bits)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        return (upstream,)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return [s for bits in (8, 11) for s in unary_samples(cls(bits), differentiable=False)]


def round_to(x: Value, bits: int) -> Value:
    """x to this many significant bits."""
    return apply(Round(bits), x)
