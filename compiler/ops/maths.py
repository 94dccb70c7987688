"""The maths of formulas over numpy arrays: what `Elementwise.reference` computes with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dlc.compiler.ir.types import DType
from dlc.runtime.deferred import np


class NumpyMaths:
    """`lowering.Maths` over arrays; results keep the operands' element type."""

    def exp(self, x: np.ndarray) -> Any:
        """e to the power x."""
        return np.exp(x)

    def log(self, x: np.ndarray) -> Any:
        """Natural logarithm."""
        return np.log(x)

    def sqrt(self, x: np.ndarray) -> Any:
        """Square root."""
        return np.sqrt(x)

    def round(self, x: np.ndarray, bits: int) -> Any:
        """x to `bits` significant bits, ties to even."""
        part, exponent = np.frexp(x)
        return np.ldexp(np.round(np.ldexp(part, bits)), exponent - bits).astype(x.dtype)

    def tanh(self, x: np.ndarray) -> Any:
        """Hyperbolic tangent."""
        return np.tanh(x)

    def erf(self, x: np.ndarray) -> Any:
        """The error function, exact to the element type."""
        return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x)).astype(x.dtype) if np.size(x) else x

    def power(self, x: np.ndarray, y: np.ndarray) -> Any:
        """x to the power y."""
        return np.power(x, y)

    def floor(self, x: np.ndarray) -> Any:
        """The largest whole number not above x."""
        return np.floor(x)

    def absolute(self, x: np.ndarray) -> Any:
        """The magnitude."""
        return np.abs(x)

    def maximum(self, x: np.ndarray, y: np.ndarray | float) -> Any:
        """The larger one."""
        return np.maximum(x, y)

    def minimum(self, x: np.ndarray, y: np.ndarray | float) -> Any:
        """The smaller one."""
        return np.minimum(x, y)

    def equal(self, x: np.ndarray, y: np.ndarray | float) -> Any:
        """Whether both are equal."""
        return np.equal(x, y)

    def where(self, condition: np.ndarray, x: np.ndarray | float, y: np.ndarray | float) -> Any:
        """x where the condition holds, else y."""
        return np.where(condition, x, y)

    def cast(self, x: np.ndarray, dtype: DType) -> Any:
        """x in another element type.

        A float64 array stays float64 under casts to narrower floats: that is how gradients are checked.
        """
        x = np.asarray(x)
        return x if x.dtype == np.float64 and dtype.is_float else x.astype(dtype.numpy)

    def constant(self, value: float | int | bool, dtype: DType) -> Any:
        """A number of an element type."""
        return np.asarray(value, dtype.numpy)

    def let(self, x: np.ndarray, body: Callable[[np.ndarray], Any]) -> Any:
        """`body(x)`."""
        return body(x)
