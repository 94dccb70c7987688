"""Vectorised float32 exp, log, tanh, sigmoid, erf and power for CPU targets.

LLVM calls the scalar C function once per lane for these. Each is lowered to straight-line arithmetic instead, with the
edges of the C functions: infinities, overflow, underflow through the subnormals, NaN in, NaN out.
Accuracies are relative, in float32, and were measured over each function's whole range (tests/compiler/codegen).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import tirx

_registered = False


def register() -> None:
    """Makes the compiler use these in every kernel for an LLVM target. Does its work once in a process."""
    global _registered
    if _registered:
        return
    functions: dict[str, Callable[..., Any]] = {
        "exp": _exp, "log": _log, "tanh": _tanh, "sigmoid": _sigmoid, "erf": _erf, "pow": _power,
    }  # fmt: skip
    for name, function in functions.items():
        tvm.tirx.register_intrin_lowering(f"tirx.{name}", target="llvm", f=_float32_only(function), level=99)
    _registered = True


def _float32_only(function: Callable[..., Any]) -> Callable[[Any], Any]:
    def lower(call: Any) -> Any:
        dtype = str(call.args[0].ty.dtype)
        if dtype != "float32" and not dtype.startswith("float32x"):
            return call
        vector = _Vector(int(dtype.partition("x")[2] or 1))
        return vector.bind(function(vector, *map(vector.name, call.args)))

    return lower


class _Vector:
    """Makes constants, casts and names of one lane count."""

    def __init__(self, lanes: int) -> None:
        self.suffix = f"x{lanes}" if lanes > 1 else ""
        self.lanes = lanes
        self.names: list[tuple[Any, Any]] = []

    def name(self, x: Any) -> Any:
        """A variable for what is used more than once: an expression is a tree, not a graph."""
        variable = tirx.Var(f"t{len(self.names)}", str(x.ty.dtype))
        self.names.append((variable, x))
        return variable

    def bind(self, result: Any) -> Any:
        """The result with all names given their meaning."""
        for variable, x in reversed(self.names):
            result = tirx.Let(variable, x, result)
        return result

    def constant(self, value: float, dtype: str = "float32") -> Any:
        scalar = tirx.const(value, dtype)
        return tirx.Broadcast(scalar, self.lanes) if self.lanes > 1 else scalar

    def cast(self, x: Any, dtype: str) -> Any:
        return tirx.Cast(dtype + self.suffix, x)

    def bits(self, x: Any, dtype: str) -> Any:
        return tirx.reinterpret(dtype + self.suffix, x)

    def polynomial(self, x: Any, coefficients: Sequence[float], dtype: str = "float32") -> Any:
        """Horner's scheme, highest power first."""
        x, result = self.name(x), self.constant(coefficients[0], dtype)
        for c in coefficients[1:]:
            result = result * x + self.constant(c, dtype)
        return result

    def clamp(self, x: Any, low: float, high: float) -> Any:
        """`x` between the bounds; NaN stays NaN (TVM's min and max would drop it)."""
        x = self.name(x)
        x = self.name(tirx.Select(x > self.constant(high), self.constant(high), x))
        return self.name(tirx.Select(x < self.constant(low), self.constant(low), x))


def _exp(v: _Vector, x: Any) -> Any:
    """exp(x) = 2^n · e^r with n = round(x / ln 2), |r| <= ln(2) / 2; Cephes' expf polynomial. Error 1e-7."""
    c = v.constant
    y = v.clamp(x, -104.0, 89.0)
    n = v.name(tirx.floor(y * c(1.44269504088896341) + c(0.5)))
    r = v.name(y - n * c(0.693359375) - n * c(-2.12194440e-4))
    terms = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
    p = v.polynomial(r, terms) * r * r + r + c(1.0)
    exponent = v.name(v.cast(n, "int32"))
    # 2^n in two factors: n reaches -150 (subnormal results) and 128 (the largest results), 2^n alone does not
    half = v.name(exponent >> c(1, "int32"))
    low = v.bits((half + c(127, "int32")) << c(23, "int32"), "float32")
    high = v.bits((exponent - half + c(127, "int32")) << c(23, "int32"), "float32")
    result = p * low * high
    return tirx.Select(x > c(88.722839), c(float("inf")), result)


def _log(v: _Vector, x: Any) -> Any:
    """log(m · 2^e) = log(m) + e ln 2 with m in [√½, √2); Cephes' logf polynomial. Error 1e-7."""
    c = v.constant
    tiny = x < c(1.17549435e-38)
    y = tirx.Select(tiny, x * c(8388608.0), x)  # subnormal: times 2^23
    bits = v.name(v.bits(y, "int32"))
    e = v.cast((bits >> c(23, "int32")) - c(126, "int32"), "float32") - tirx.Select(tiny, c(23.0), c(0.0))
    m = v.name(v.bits((bits & c(0x007FFFFF, "int32")) | c(0x3F000000, "int32"), "float32"))  # [0.5, 1)
    small = m < c(0.70710678)
    e = v.name(e - tirx.Select(small, c(1.0), c(0.0)))
    f = v.name(tirx.Select(small, m + m, m) - c(1.0))
    terms = (
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
        2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
    )  # fmt: skip
    square = v.name(f * f)
    p = v.polynomial(f, terms) * f * square + e * c(-2.12194440e-4) - square * c(0.5)
    result = f + p + e * c(0.693359375)
    result = tirx.Select(x == c(float("inf")), x, result)
    result = tirx.Select(x == c(0.0), c(float("-inf")), result)
    return tirx.Select(x >= c(0.0), result, c(float("nan")))  # false for NaN too


def _tanh(v: _Vector, x: Any) -> Any:
    """A rational function of degrees 13 and 6, as in Eigen (MathFunctionsImpl.h). Error 4e-7."""
    y = v.clamp(x, -9.0, 9.0)
    square = v.name(y * y)
    odd = (
        -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05,
        6.37261928875436e-04, 4.89352455891786e-03,
    )  # fmt: skip
    even = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
    return v.clamp(y * v.polynomial(square, odd) / v.polynomial(square, even), -1.0, 1.0)


def _sigmoid(v: _Vector, x: Any) -> Any:
    """1 / (1 + exp(-x)). Error 2e-7."""
    return v.constant(1.0) / (v.constant(1.0) + _exp(v, v.name(v.constant(0.0) - x)))


def _erf(v: _Vector, x: Any) -> Any:
    """A rational function of degrees 13 and 8, as in Eigen (SpecialFunctionsImpl.h). Error 4e-7."""
    y = v.clamp(x, -4.0, 4.0)
    square = v.name(y * y)
    odd = (
        -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
        -2.95459980854025e-03, -1.60960333262415e-02,
    )  # fmt: skip
    even = (
        -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02,
    )  # fmt: skip
    return v.clamp(y * v.polynomial(square, odd) / v.polynomial(square, even), -1.0, 1.0)


def _power(v: _Vector, x: Any, y: Any) -> Any:
    """x^y = 2^(y log2 |x|) in float64, so that the product keeps its digits. Error 1e-7.

    Negative bases take whole exponents, others give NaN, as in C. log(m) is 2 artanh((m - 1) / (m + 1)).
    """
    f64 = "float64"
    c = v.constant
    a = v.name(v.cast(tirx.Select(x < c(0.0), c(0.0) - x, x), f64))
    zero, infinite, one = a == c(0.0, f64), a > c(3.5e38, f64), a == c(1.0, f64)
    bits = v.name(v.bits(a, "int64"))
    e = v.cast((bits >> c(52, "int64")) - c(1023, "int64"), f64)
    m = v.name(v.bits((bits & c((1 << 52) - 1, "int64")) | c(1023 << 52, "int64"), f64))  # [1, 2)
    large = m > c(1.4142135623730951, f64)
    m = v.name(tirx.Select(large, m * c(0.5, f64), m))
    e = e + tirx.Select(large, c(1.0, f64), c(0.0, f64))
    t = v.name((m - c(1.0, f64)) / (m + c(1.0, f64)))
    series = [1.0 / k for k in (13, 11, 9, 7, 5, 3, 1)]
    log2 = e + v.polynomial(t * t, series, f64) * t * c(2.8853900817779268, f64)
    log2 = tirx.Select(zero, c(-1e300, f64), tirx.Select(infinite, c(1e300, f64), log2))
    exponent = v.name(tirx.Select(one, c(0.0, f64), v.cast(y, f64) * log2))
    exponent = v.name(tirx.Select(exponent > c(200.0, f64), c(200.0, f64), exponent))
    exponent = v.name(tirx.Select(exponent < c(-200.0, f64), c(-200.0, f64), exponent))
    n = v.name(tirx.floor(exponent + c(0.5, f64)))
    r = (exponent - n) * c(0.6931471805599453, f64)
    terms = (1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0)
    scale = v.bits((v.cast(n, "int64") + c(1023, "int64")) << c(52, "int64"), f64)
    result = v.name(v.cast(v.polynomial(r, terms, f64) * scale, "float32"))
    whole = tirx.floor(y) == y
    odd = tirx.floor(y * c(0.5)) * c(2.0) != y
    negative = v.bits(x, "int32") < c(0, "int32")  # -0 too
    signed = tirx.Select(odd, c(0.0) - result, result)
    fraction = tirx.Select(zero, result, tirx.Select(infinite, result, c(float("nan"))))
    result = v.name(tirx.Select(negative, tirx.Select(whole, signed, fraction), result))
    result = tirx.Select(x == x, result, x)
    result = tirx.Select(y == y, result, y)
    result = tirx.Select(y == c(0.0), c(1.0), result)
    return tirx.Select(x == c(1.0), c(1.0), result)
