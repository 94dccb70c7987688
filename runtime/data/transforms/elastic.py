"""Elastic distortions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.affine import Field
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.transforms.base import Geometric, Places, Size, unmoved
from dlc.runtime.deferred import np

SMALLEST = 1e-3
"""Parts of the noise that smoothing makes smaller than this, of the largest one, are left out."""


@dataclass(frozen=True)
class Elastic(Geometric):
    """Moves each pixel by a smooth random field, as ink on rubber (Simard, Steinkraus and Platt 2003, section 2).

    Rows and columns each have a field: noise between -1 and 1, smoothed by a Gaussian of the deviation `sigma` (pixels; 0
    outside the image, cut off at 4 sigma) and multiplied by `alpha`. The paper's numbers for MNIST, 34 and 4, move pixels
    by 1.4 on average. Bilinear; what comes into view is 0 (black).
    """

    keyword: ClassVar[str] = "elastic"

    alpha: float = 34.0
    sigma: float = 4.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise ArgumentError("alpha", f"must be 0 or more, not {self.alpha}")
        if not 0 < self.sigma < math.inf:
            raise ArgumentError("sigma", f"must be above 0, not {self.sigma}")

    @property
    def displaces(self) -> bool:
        """It does."""
        return True

    def places(self, draws: Draws, source: Size) -> Places:
        """Images stay where they are."""
        return Places(*unmoved(len(draws)))

    def field(self, draws: Draws, source: Size) -> Field:
        """Smooth random displacements.

        Smoothing is the matrix S of a Gaussian on both sides of the noise; `S = U diag(s) Uᵀ`, and noise of independent
        numbers has, turned by an orthogonal U, the same variances. So only the few numbers that smoothing leaves over are
        drawn, and what is left out is less than a thousandth of the field.
        """
        rows, columns = (_smoothing(extent, self.sigma) for extent in source)
        a, b = rows.shape[1], columns.shape[1]
        noise = draws.noise(2 * a * b)
        noise *= np.float32(self.alpha)
        return Field(noise.reshape(-1, 2, a, b), rows, columns)


@cache
def _smoothing(extent: int, sigma: float) -> np.ndarray:
    """`U diag(s)` of the smoothing matrix of one axis, without its smallest parts: float32 [extent, rank]."""
    radius = int(4 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    distance = np.abs(np.arange(extent)[:, None] - np.arange(extent)[None, :])
    smooth = np.where(distance <= radius, taps[radius + np.minimum(distance, radius)], 0.0)
    values, vectors = np.linalg.eigh(smooth)
    kept = np.abs(values) >= SMALLEST * np.abs(values).max()
    # An eigenvector's sign is not determined: the largest entry is made positive, so that runs agree.
    vectors = vectors[:, kept]
    largest = np.abs(vectors).argmax(axis=0)
    found: np.ndarray = vectors * (np.sign(vectors[largest, np.arange(vectors.shape[1])]) * values[kept])
    return found.astype(np.float32)
