"""Arithmetic and comparison on compile-time values, within limits: a spec can ask for `10**10**10`, but not get it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from dlc.compiler.frontend.limits import Limits
from dlc.compiler.frontend.values import Measure, Word, kind


class OperandError(Exception):
    """Operands that an operator does not take (E0507), or a result there is none of (E0510)."""

    def __init__(self, code: str, message: str, help: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.help = help


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow,
}  # fmt: skip
ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def is_number(value: object) -> bool:
    """Whether a value is an integer or a float (`true` is neither)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def binary(sign: str, left: Any, right: Any, limits: Limits) -> Any:
    """`left sign right`. Raises OperandError."""
    if sign in ("==", "!="):
        return _equal(left, right) == (sign == "==")
    if sign in ORDER:
        return _ordered(sign, left, right)
    if is_number(left) and is_number(right):
        return _arithmetic(sign, left, right, limits)
    if sign == "+" and isinstance(left, (list, range)) and isinstance(right, (list, range)):
        return within_length([*left, *right] if len(left) + len(right) <= limits.list_length else None, limits)
    if sign == "+" and isinstance(left, tuple) and isinstance(right, tuple):
        return left + right
    if sign == "+" and isinstance(left, str) and isinstance(right, str):
        return within_string(left + right, limits)
    if sign == "*" and (pair := _repeated(left, right)):
        sequence, times = pair
        longest = limits.string_length if isinstance(sequence, str) else limits.list_length
        if times > 0 and len(sequence) * times > longest:
            raise _too_long(sequence, limits)
        return sequence * max(times, 0)
    raise OperandError("E0507", f"`{sign}` does not work on {kind(left)} and {kind(right)}")


def _repeated(left: Any, right: Any) -> tuple[Any, int] | None:
    for sequence, times in ((left, right), (right, left)):
        if isinstance(sequence, (list, tuple, str)) and isinstance(times, int) and not isinstance(times, bool):
            return sequence, times
    return None


def _too_long(sequence: object, limits: Limits) -> OperandError:
    if isinstance(sequence, str):
        return OperandError("E0909", f"this text is longer than {limits.string_length:,} characters")
    return OperandError("E0907", f"this list is longer than {limits.list_length:,} items")


def within_length(value: list[Any] | None, limits: Limits) -> list[Any]:
    """The list; raises OperandError where it is longer than a list may be (None: known to be)."""
    if value is None or len(value) > limits.list_length:
        raise _too_long([], limits)
    return value


def within_string(value: str, limits: Limits) -> str:
    """The text; raises OperandError where it is longer than a text may be."""
    if len(value) > limits.string_length:
        raise _too_long(value, limits)
    return value


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    if isinstance(left, Word) and isinstance(right, str):
        return left.text == right
    if isinstance(right, Word) and isinstance(left, str):
        return right.text == left
    if isinstance(left, range):
        left = list(left)
    if isinstance(right, range):
        right = list(right)
    return bool(left == right)


def _ordered(sign: str, left: Any, right: Any) -> bool:
    if (is_number(left) and is_number(right)) or (isinstance(left, str) and isinstance(right, str)):
        return ORDER[sign](left, right)
    if isinstance(left, Measure) and isinstance(right, Measure) and left.unit == right.unit:
        return ORDER[sign](left.amount, right.amount)
    raise OperandError("E0507", f"`{sign}` compares numbers, not {kind(left)} and {kind(right)}")


def _arithmetic(sign: str, left: Any, right: Any, limits: Limits) -> Any:
    if sign in ("/", "//", "%") and right == 0:
        raise OperandError("E0510", "division by zero")
    if sign == "**":
        _check_power(left, right, limits)
    try:
        result = ARITHMETIC[sign](left, right)
    except OverflowError:
        raise OperandError("E0510", f"the result of `{sign}` is too large for a number") from None
    except ZeroDivisionError:
        raise OperandError("E0510", "zero has no negative power") from None
    return within_size(result, limits)


def _check_power(base: Any, exponent: Any, limits: Limits) -> None:
    whole = isinstance(base, int) and isinstance(exponent, int) and exponent > 0 and abs(base) > 1
    if whole and (base.bit_length() - 1) * exponent > limits.integer_bits:
        raise _too_large(limits)


def _too_large(limits: Limits) -> OperandError:
    return OperandError("E0908", f"this integer has more than {limits.integer_bits} bits", "use a float: `2.0**100`")


def within_size(value: Any, limits: Limits) -> Any:
    """The number; raises OperandError where an integer is too long or a float is infinite, undefined or complex."""
    if isinstance(value, int) and value.bit_length() > limits.integer_bits:
        raise _too_large(limits)
    if isinstance(value, complex):
        raise OperandError("E0510", "a negative number has no such power")
    if isinstance(value, float) and not math.isfinite(value):
        raise OperandError("E0510", "this number is too large")
    return value


def negate(sign: str, value: Any) -> Any:
    """`-value` or `+value`. Raises OperandError."""
    if is_number(value):
        return -value if sign == "-" else value
    if isinstance(value, Measure):
        return Measure(-value.amount, value.unit) if sign == "-" else value
    raise OperandError("E0507", f"`{sign}` takes a number, not {kind(value)}")
