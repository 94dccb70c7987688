"""Initializers that fill with one number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.initializers.base import Initializer
from dlc.runtime.deferred import np


@dataclass(frozen=True)
class Zeros(Initializer):
    """All zeros: the default of every bias. For weights it leaves all units of a layer equal for ever (symmetry)."""

    keyword: ClassVar[str] = "zeros"

    def fill(self, shape: tuple[int, ...], fan_in: int, fan_out: int, generator: np.random.Generator) -> np.ndarray:
        return np.zeros(shape, np.float32)


@dataclass(frozen=True)
class Constant(Initializer):
    """The same `value` everywhere."""

    keyword: ClassVar[str] = "constant"
    value: float

    def fill(self, shape: tuple[int, ...], fan_in: int, fan_out: int, generator: np.random.Generator) -> np.ndarray:
        return np.full(shape, self.value, np.float32)
