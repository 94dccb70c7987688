"""Vectorised float32 exp, log, tanh, sigmoid, erf and power for CPU targets.

LLVM calls the scalar C function once per lane for these. Here each is a small function in LLVM's own language, for each
number of lanes, that is inlined wherever it is called. All have the edges of the C functions: infinities, overflow,
underflow through the subnormals, NaN in, NaN out. (Written as TVM expressions they would be trees that repeat what is used
twice, and TVM's `Let` is put back or trips its simplifier inside conditions.)

The stated errors are relative, in float32, over each function's whole range (measured by tests/compiler/codegen).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call

LANES = (*range(1, 33), 48, 64)
_TYPES = {"f32": "float", "f64": "double", "i32": "i32", "i64": "i64", "i1": "i1"}

_registered = False


def register() -> None:
    """Makes the compiler call these in every kernel for an LLVM target. Does its work once in a process."""
    global _registered
    if _registered:
        return
    _to_bits_op()
    for name in _FUNCTIONS:
        tvm.tirx.register_intrin_lowering(f"tirx.{name}", target="llvm", f=_lower(name), level=99)
    _registered = True


_TO_BITS = "tirx.dlc_to_bfloat16"


def pure_operator(name: str, inputs: int, what: str, lower: Callable[[Any], Any]) -> Any:
    """A new operator of the compiler's, tirx.dlc_NAME: pure, computed side by side, and exchanged by `lower` for LLVM."""
    tvm_ffi.get_global_func("ir.RegisterOp")(name, what)
    op = tvm.ir.Op.get(name)
    op.set_num_inputs(inputs)
    op.set_attr("TVectorizable", True)
    op.set_attr("TScriptPrinterName", name.removeprefix("tirx.dlc_"))
    op.set_attr("TCallEffectKind", tvm.ir.Op.get("tirx.exp").get_attr("TCallEffectKind"))
    tvm.tirx.register_intrin_lowering(name, target="llvm", f=lower, level=99)
    return op


@cache
def _to_bits_op() -> Any:
    """The operator of `to_bits`."""
    return pure_operator(_TO_BITS, 1, "a float32 as the bits of a bfloat16", _lower_to_bits)


def to_bits(x: Any) -> Any:
    """A float32 rounded to bfloat16, ties to even, as its 16 bits."""
    _to_bits_op()
    return tirx.call_intrin("uint16", _TO_BITS, x)


def _lower_to_bits(call: Any) -> Any:
    lanes = str(call.args[0].ty.dtype).partition("x")[2] or "1"
    return tirx.call_pure_extern(str(call.ty.dtype), f"{_BITS_SYMBOL}_{lanes}", *call.args)


_BITS_SYMBOL = "dlc_to_bfloat16"


@cache
def rounding_definitions(native: bool) -> str:
    """`to_bits` for each number of lanes, by the processor's own instruction (avx512bf16) or by whole numbers.

    Half of what is lost is added, less one if the last bit that stays is even; NaN stays one.
    """
    return "\n".join(_define_rounding(lanes, native) for lanes in LANES)


def _define_rounding(lanes: int, native: bool) -> str:
    def typed(kind: str) -> str:
        return kind if lanes == 1 else f"<{lanes} x {kind}>"

    def number(value: int) -> str:
        return str(value) if lanes == 1 else f"splat (i32 {value})"

    real, whole, short, flag = typed("float"), typed("i32"), typed("i16"), typed("i1")
    head = f"define {short} @{_BITS_SYMBOL}_{lanes}({real} %x) alwaysinline nounwind {{"
    if native:
        near = typed("bfloat")
        return f"{head}\n  %r = fptrunc {real} %x to {near}\n  %s = bitcast {near} %r to {short}\n  ret {short} %s\n}}"
    return f"""{head}
  %b = bitcast {real} %x to {whole}
  %h = lshr {whole} %b, {number(16)}
  %l = and {whole} %h, {number(1)}
  %m = add {whole} %l, {number(0x7FFF)}
  %s = add {whole} %b, {"%m"}
  %q = or {whole} %b, {number(0x400000)}
  %n = fcmp uno {real} %x, %x
  %k = select {flag} %n, {whole} %q, {whole} %s
  %t = lshr {whole} %k, {number(16)}
  %r = trunc {whole} %t to {short}
  ret {short} %r
}}"""


def _lower(name: str) -> Callable[[Any], Any]:
    def lower(call: Any) -> Any:
        dtype = str(call.args[0].ty.dtype)
        kind, _, lanes = dtype.partition("x")
        if kind != "float32" or int(lanes or 1) not in LANES:
            return call
        return tirx.call_pure_extern(dtype, _symbol(name, int(lanes or 1)), *call.args)

    return lower


def with_definitions(functions: Mapping[str, Any], native_bfloat16: bool = False) -> dict[str, Any]:
    """The functions, the first that calls one of these bringing the definitions of all that any of them calls.

    `native_bfloat16`: the processor has instructions that round to bfloat16.
    """
    calls = {name: _calls(f) for name, f in functions.items()}
    wanted = tuple(name for name in _FUNCTIONS if any(name in c for c in calls.values()))
    result = dict(functions)
    if wanted:
        first = next(name for name, c in calls.items() if not c.isdisjoint(wanted))
        result[first] = with_import(functions[first], definitions(wanted))
    rounding = next((name for name, c in calls.items() if _TO_BITS in c), None)
    if rounding is not None:
        result[rounding] = with_import(result[rounding], rounding_definitions(native_bfloat16))
    return result


def _calls(function: Any) -> set[str]:
    """Those of the functions here that a kernel calls."""
    found: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, Call):
            name = str(getattr(node.op, "name", "")).removeprefix("tirx.")
            if name in _FUNCTIONS:
                found.add(name)
            elif f"tirx.{name}" == _TO_BITS:
                found.add(_TO_BITS)

    tvm_ffi.structural_walk(function.body, visit)
    return found


def with_import(function: Any, text: str) -> Any:
    """The function with an LLVM module that the machine code's module takes in."""
    body = tirx.AttrStmt(tirx.const(0, "int32"), "pragma_import_llvm", tvm.ir.StringImm(text), function.body)
    return function.with_body(body)


@cache
def definitions(names: tuple[str, ...] = ("exp", "log", "tanh", "sigmoid", "erf", "pow")) -> str:
    """Some of the functions as an LLVM module's text."""
    bodies = [_define(name, lanes) for name in names for lanes in LANES]
    floors = [
        f"declare {_type(kind, lanes)} @llvm.floor.{_suffix(kind, lanes)}({_type(kind, lanes)})"
        for kind in ("f32", "f64")
        for lanes in LANES
    ]
    return "\n".join([*floors, *bodies])


def _symbol(name: str, lanes: int) -> str:
    return f"dlc_{name}_{lanes}"


def _type(kind: str, lanes: int) -> str:
    return _TYPES[kind] if lanes == 1 else f"<{lanes} x {_TYPES[kind]}>"


def _suffix(kind: str, lanes: int) -> str:
    return kind if lanes == 1 else f"v{lanes}{kind}"


def _define(name: str, lanes: int) -> str:
    function, arity = _FUNCTIONS[name]
    code = _Code(lanes)
    operands = [_Vector(code, "f32", f"%x{i}") for i in range(arity)]
    result = function(code, *operands)
    real = _type("f32", lanes)
    parameters = ", ".join(f"{real} {o.name}" for o in operands)
    lines = "\n".join(f"  {line}" for line in code.lines)
    return f"define {real} @{_symbol(name, lanes)}({parameters}) alwaysinline nounwind {{\n{lines}\n  ret {real} {result.name}\n}}"


class _Vector:
    """A value in LLVM's language; operators add instructions to its function. Numbers may stand beside vectors."""

    def __init__(self, code: _Code, kind: str, name: str) -> None:
        self.code, self.kind, self.name = code, kind, name

    def _binary(self, integer: str, real: str, other: _Vector | float) -> _Vector:
        other = self.code.constant(other, self.kind)
        instruction = f"{real} contract" if self.kind[0] == "f" else integer
        return self.code.add(self.kind, f"{instruction} {self.code.type(self.kind)} {self.name}, {other.name}")

    def _compare(self, integer: str, real: str, other: _Vector | float) -> _Vector:
        other = self.code.constant(other, self.kind)
        instruction = f"fcmp {real}" if self.kind[0] == "f" else f"icmp {integer}"
        return self.code.add("i1", f"{instruction} {self.code.type(self.kind)} {self.name}, {other.name}")

    def __add__(self, other: _Vector | float) -> _Vector:
        return self._binary("add", "fadd", other)

    def __sub__(self, other: _Vector | float) -> _Vector:
        return self._binary("sub", "fsub", other)

    def __mul__(self, other: _Vector | float) -> _Vector:
        return self._binary("mul", "fmul", other)

    def __truediv__(self, other: _Vector | float) -> _Vector:
        return self._binary("sdiv", "fdiv", other)

    def __and__(self, other: _Vector | float) -> _Vector:
        return self._binary("and", "", other)

    def __or__(self, other: _Vector | float) -> _Vector:
        return self._binary("or", "", other)

    def __lshift__(self, other: int) -> _Vector:
        return self._binary("shl", "", other)

    def __rshift__(self, other: int) -> _Vector:
        return self._binary("ashr", "", other)

    def __lt__(self, other: _Vector | float) -> _Vector:
        return self._compare("slt", "olt", other)

    def __gt__(self, other: _Vector | float) -> _Vector:
        return self._compare("sgt", "ogt", other)

    def equals(self, other: _Vector | float) -> _Vector:
        return self._compare("eq", "oeq", other)

    def is_nan(self) -> _Vector:
        return self._compare("ne", "uno", self)


class _Code:
    """The instructions of one function for one number of lanes."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.lines: list[str] = []

    def type(self, kind: str) -> str:
        return _type(kind, self.lanes)

    def add(self, kind: str, instruction: str) -> _Vector:
        name = f"%v{len(self.lines)}"
        self.lines.append(f"{name} = {instruction}")
        return _Vector(self, kind, name)

    def constant(self, value: _Vector | float, kind: str = "f32") -> _Vector:
        """A number in all lanes; vectors stay. LLVM writes floats as the bits of the double of the same value."""
        if isinstance(value, _Vector):
            return value
        if kind[0] == "f":
            exact = float(np.float32(value)) if kind == "f32" else float(value)
            text = f"0x{struct.pack('>d', exact).hex().upper()}"
        else:
            text = str(int(value))
        return _Vector(self, kind, text if self.lanes == 1 else f"splat ({_TYPES[kind]} {text})")

    def select(self, condition: _Vector, x: _Vector | float, y: _Vector | float) -> _Vector:
        """x where the condition holds, else y."""
        kind = next((v.kind for v in (x, y) if isinstance(v, _Vector)), "f32")
        x, y, type_ = self.constant(x, kind), self.constant(y, kind), self.type(kind)
        return self.add(kind, f"select {self.type('i1')} {condition.name}, {type_} {x.name}, {type_} {y.name}")

    def floor(self, x: _Vector) -> _Vector:
        """The largest whole number not above x."""
        return self.add(
            x.kind, f"call {self.type(x.kind)} @llvm.floor.{_suffix(x.kind, self.lanes)}({self.type(x.kind)} {x.name})"
        )

    def cast(self, x: _Vector, kind: str) -> _Vector:
        """x in another type; NaN as an integer is any number."""
        pair = x.kind[0] + kind[0]
        wider = kind > x.kind
        name = {
            "fi": "fptosi",
            "if": "sitofp",
            "ff": "fpext" if wider else "fptrunc",
            "ii": "sext" if wider else "trunc",
        }[pair]
        made = self.add(kind, f"{name} {self.type(x.kind)} {x.name} to {self.type(kind)}")
        return self.add(kind, f"freeze {self.type(kind)} {made.name}") if pair == "fi" else made

    def bits(self, x: _Vector, kind: str) -> _Vector:
        """The same bits as another type."""
        return self.add(kind, f"bitcast {self.type(x.kind)} {x.name} to {self.type(kind)}")

    def polynomial(self, x: _Vector, coefficients: Sequence[float]) -> _Vector:
        """Horner's scheme, highest power first."""
        result = self.constant(coefficients[0], x.kind)
        for c in coefficients[1:]:
            result = result * x + c
        return result

    def clamp(self, x: _Vector, low: float, high: float) -> _Vector:
        """x between the bounds; NaN stays NaN."""
        x = self.select(x > high, high, x)
        return self.select(x < low, low, x)


def _exp(c: _Code, x: _Vector) -> _Vector:
    """exp(x) = 2^n · e^r with n = round(x / ln 2), |r| <= ln(2) / 2; Cephes' expf polynomial. Error 1e-7."""
    y = c.clamp(x, -104.0, 89.0)
    n = c.floor(y * 1.44269504088896341 + 0.5)
    r = y - n * 0.693359375 - n * -2.12194440e-4
    terms = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
    p = c.polynomial(r, terms) * (r * r) + r + 1.0
    exponent = c.cast(n, "i32")
    # 2^n in two factors: n reaches -150 (subnormal results) and 128 (the largest results), 2^n alone does not
    half = exponent >> 1
    low = c.bits((half + 127) << 23, "f32")
    high = c.bits((exponent - half + 127) << 23, "f32")
    return c.select(x > 88.722839, float("inf"), p * low * high)


def _log(c: _Code, x: _Vector) -> _Vector:
    """log(m · 2^e) = log(m) + e ln 2 with m in [√½, √2); Cephes' logf polynomial. Error 1e-7."""
    tiny = x < 1.17549435e-38
    y = c.select(tiny, x * 8388608.0, x)  # subnormal: times 2^23
    bits = c.bits(y, "i32")
    e = c.cast((bits >> 23) - 126, "f32") - c.select(tiny, 23.0, 0.0)
    m = c.bits((bits & 0x007FFFFF) | 0x3F000000, "f32")  # [0.5, 1)
    small = m < 0.70710678
    e = e - c.select(small, 1.0, 0.0)
    f = c.select(small, m + m, m) - 1.0
    terms = (
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
        2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
    )  # fmt: skip
    square = f * f
    p = c.polynomial(f, terms) * f * square + e * -2.12194440e-4 - square * 0.5
    result = f + p + e * 0.693359375
    result = c.select(x.equals(float("inf")), x, result)
    result = c.select(x < 0.0, float("nan"), result)
    result = c.select(x.equals(0.0), float("-inf"), result)
    return c.select(x.is_nan(), x, result)


def _tanh(c: _Code, x: _Vector) -> _Vector:
    """A rational function of degrees 13 and 6, as in Eigen (MathFunctionsImpl.h). Error 4e-7."""
    y = c.clamp(x, -9.0, 9.0)
    square = y * y
    odd = (
        -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05,
        6.37261928875436e-04, 4.89352455891786e-03,
    )  # fmt: skip
    even = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
    return c.clamp(y * c.polynomial(square, odd) / c.polynomial(square, even), -1.0, 1.0)


def _sigmoid(c: _Code, x: _Vector) -> _Vector:
    """1 / (1 + exp(-x)). Error 2e-7."""
    return c.constant(1.0) / (_exp(c, c.constant(0.0) - x) + 1.0)


def _erf(c: _Code, x: _Vector) -> _Vector:
    """A rational function of degrees 13 and 8, as in Eigen (SpecialFunctionsImpl.h). Error 6e-7."""
    y = c.clamp(x, -4.0, 4.0)
    square = y * y
    odd = (
        -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
        -2.95459980854025e-03, -1.60960333262415e-02,
    )  # fmt: skip
    even = (
        -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02,
    )  # fmt: skip
    return c.clamp(y * c.polynomial(square, odd) / c.polynomial(square, even), -1.0, 1.0)


def _power(c: _Code, x: _Vector, y: _Vector) -> _Vector:
    """x^y = 2^(y log2 |x|) in float64, so that the product keeps its digits. Error 1e-7.

    Negative bases take whole exponents, others give NaN, as in C. log(m) is 2 artanh((m - 1) / (m + 1)).
    """
    a = c.cast(c.select(x < 0.0, c.constant(0.0) - x, x), "f64")
    zero, infinite, one = a.equals(0.0), a > 3.5e38, a.equals(1.0)
    bits = c.bits(a, "i64")
    e = c.cast((bits >> 52) - 1023, "f64")
    m = c.bits((bits & ((1 << 52) - 1)) | (1023 << 52), "f64")  # [1, 2)
    large = m > 1.4142135623730951
    m = c.select(large, m * 0.5, m)
    e = e + c.select(large, c.constant(1.0, "f64"), c.constant(0.0, "f64"))
    t = (m - 1.0) / (m + 1.0)
    series = [1.0 / k for k in (13, 11, 9, 7, 5, 3, 1)]
    log2 = e + c.polynomial(t * t, series) * t * 2.8853900817779268
    log2 = c.select(zero, -1e300, c.select(infinite, 1e300, log2))
    exponent = c.select(one, 0.0, c.cast(y, "f64") * log2)
    exponent = c.clamp(exponent, -200.0, 200.0)
    n = c.floor(exponent + 0.5)
    r = (exponent - n) * 0.6931471805599453
    terms = (1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0)
    scale = c.bits((c.cast(n, "i64") + 1023) << 52, "f64")
    result = c.cast(c.polynomial(r, terms) * scale, "f32")
    whole = c.floor(y).equals(y)
    odd = whole & ((c.floor(y * 0.5) * 2.0) < y)
    negative = c.bits(x, "i32") < 0  # -0 too
    signed = c.select(odd, c.constant(0.0) - result, result)
    fraction = c.select(zero | infinite, result, float("nan"))
    result = c.select(negative, c.select(whole, signed, fraction), result)
    result = c.select(x.is_nan(), x, c.select(y.is_nan(), y, result))
    result = c.select(y.equals(0.0), 1.0, result)
    return c.select(x.equals(1.0), 1.0, result)


_FUNCTIONS: dict[str, tuple[Callable[..., _Vector], int]] = {
    "exp": (_exp, 1), "log": (_log, 1), "tanh": (_tanh, 1), "sigmoid": (_sigmoid, 1), "erf": (_erf, 1), "pow": (_power, 2),
}  # fmt: skip
