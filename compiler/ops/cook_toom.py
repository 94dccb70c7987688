"""The matrices of Winograd's minimal filtering F(m, r), made from interpolation points.

m outputs of a filter of r taps need m + r - 1 multiplications: y = Aᵀ[(G g) ⊙ (Bᵀ d)]. The construction is Cook's and Toom's,
transposed: filter and output are polynomials of degree r - 1 and m - 1, multiplied by their values at m + r - 2 points and at
infinity; the transposed product is the filter applied to m + r - 1 inputs (Lavin and Gray 2016, arXiv:1509.09308, section 4;
Barabasz et al. 2018, arXiv:1803.10986, on points and errors).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import prod

from dlc.runtime.deferred import np

POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-2), Fraction(1, 2), Fraction(-1, 2))
"""The points in the order in which they are taken: small numbers and their inverses keep rounding errors small, and points of
either sign share their sums."""

Matrix = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class Transforms:
    """Bᵀ [a, a] of the inputs, G [a, r] of the filter, Aᵀ [m, a] of the outputs, where a = m + r - 1."""

    inputs: Matrix
    filter: Matrix
    outputs: Matrix


@cache
def transforms(outputs: int, taps: int) -> Transforms:
    """The matrices of F(outputs, taps). Raises ValueError where there are not points enough."""
    size = outputs + taps - 1
    if size - 1 > len(POINTS):
        raise ValueError(f"F({outputs}, {taps}) needs {size - 1} points")
    points = POINTS[: size - 1]
    scales = [prod((p - q for q in points if q != p), start=Fraction(1)) for p in points]
    by_input = [_padded(_polynomial([q for q in points if q != p]), size) for p in points]
    by_input.append(_padded(_polynomial(points), size))
    by_filter = [tuple(p**k / s for k in range(taps)) for p, s in zip(points, scales, strict=True)]
    by_filter.append(tuple(Fraction(k == taps - 1) for k in range(taps)))
    by_output = [(*(p**i for p in points), Fraction(i == outputs - 1)) for i in range(outputs)]
    return Transforms(tuple(by_input), tuple(by_filter), tuple(by_output))


def array(matrix: Matrix, dtype: np.dtype) -> np.ndarray:
    """A matrix as an array."""
    return np.array([[float(c) for c in row] for row in matrix], dtype)


def _polynomial(roots: Iterable[Fraction]) -> tuple[Fraction, ...]:
    """The coefficients, lowest power first, of the product of all x - root."""
    result = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *result]
        scaled = [*(-root * c for c in result), Fraction(0)]
        result = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return tuple(result)


def _padded(row: tuple[Fraction, ...], size: int) -> tuple[Fraction, ...]:
    return (*row, *(Fraction(0) for _ in range(size - len(row))))
