"""Initializers that draw from a fixed distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.initializers.base import Initializer
from dlc.runtime.arguments import ArgumentError
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Normal(Initializer):
    """`normal(std=0.01, mean=0)`: the normal distribution."""

    keyword: ClassVar[str] = "normal"
    std: float = 0.01
    mean: float = 0.0

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ArgumentError("std", f"must be above 0, not {self.std}; normal(std, mean)")

    def fill(self, shape: tuple[int, ...], fan_in: int, fan_out: int, generator: np.random.Generator) -> np.ndarray:
        drawn = generator.standard_normal(shape, np.float32)
        drawn *= np.float32(self.std)
        drawn += np.float32(self.mean)
        return drawn


@dataclass(frozen=True)
class Uniform(Initializer):
    """`uniform(low=-0.05, high=0.05)`: evenly between two numbers."""

    keyword: ClassVar[str] = "uniform"
    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ArgumentError("high", f"must be above low, {self.low}, not {self.high}")

    def fill(self, shape: tuple[int, ...], fan_in: int, fan_out: int, generator: np.random.Generator) -> np.ndarray:
        drawn = generator.random(shape, np.float32)
        drawn *= np.float32(self.high - self.low)
        drawn += np.float32(self.low)
        return drawn


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """`orthogonal(gain=1)`: rows, or columns where there are more rows, that are orthonormal; Saxe et al. 2014.

    A convolution's weight counts as a matrix [out, in * kernel area], as torch's orthogonal_.
    """

    keyword: ClassVar[str] = "orthogonal"
    gain: float = 1.0

    def fill(self, shape: tuple[int, ...], fan_in: int, fan_out: int, generator: np.random.Generator) -> np.ndarray:
        rows, columns = shape[0], int(np.prod(shape[1:]))
        q, r = np.linalg.qr(generator.standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))  # makes the distribution uniform over orthogonal matrices
        matrix = q if rows >= columns else q.T
        return (self.gain * matrix).reshape(shape).astype(np.float32)
