"""Initializers that scale by the number of inputs or outputs of a unit."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, Literal

from dlc.compiler.initializers.base import Initializer
from dlc.runtime.deferred import np

Distribution = Literal["normal", "uniform"]


def draw(shape: tuple[int, ...], deviation: float, distribution: str, generator: np.random.Generator) -> np.ndarray:
    """Centred numbers of a standard deviation, float32; uniform ones lie within sqrt(3) deviations."""
    if distribution == "normal":
        drawn = generator.standard_normal(shape, np.float32)
        drawn *= np.float32(deviation)
        return drawn
    return (2 * generator.random(shape, np.float32) - 1) * np.float32(sqrt(3.0) * deviation)


@dataclass(frozen=True)
class He(Initializer):
    """`he(mode=fan_in, distribution=normal, slope=0)`: variance 2 / ((1 + slope²) * fan), He et al. 2015, for (leaky) relu.

    Torch's kaiming_normal_ and kaiming_uniform_ with the same defaults (torch's own layers use kaiming_uniform_ with slope
    sqrt(5)).
    """

    keyword: ClassVar[str] = "he"
    mode: Literal["fan_in", "fan_out"] = "fan_in"
    distribution: Distribution = "normal"
    slope: float = 0.0

    def fill(self, shape: tuple[int, ...], fan_in: int, fan_out: int, generator: np.random.Generator) -> np.ndarray:
        fan = fan_in if self.mode == "fan_in" else fan_out
        return draw(shape, sqrt(2.0 / ((1 + self.slope**2) * fan)), self.distribution, generator)


@dataclass(frozen=True)
class Xavier(Initializer):
    """`xavier(distribution=uniform, mode=average, gain=1)`: variance gain² / mean of fan in and fan out, Glorot and Bengio 2010.

    `mode=fan_in` is Caffe's default.
    """

    keyword: ClassVar[str] = "xavier"
    distribution: Distribution = "uniform"
    mode: Literal["average", "fan_in", "fan_out"] = "average"
    gain: float = 1.0

    def fill(self, shape: tuple[int, ...], fan_in: int, fan_out: int, generator: np.random.Generator) -> np.ndarray:
        fan = {"average": (fan_in + fan_out) / 2, "fan_in": fan_in, "fan_out": fan_out}[self.mode]
        return draw(shape, self.gain / sqrt(fan), self.distribution, generator)


@dataclass(frozen=True)
class Lecun(Initializer):
    """`lecun(distribution=normal)`: variance 1 / fan in, LeCun et al., Efficient BackProp, 1998, section 4.6.

    `distribution=lenet5` is LeNet-5's own: uniform within 2.4 / fan in (LeCun et al. 1998, appendix A).
    """

    keyword: ClassVar[str] = "lecun"
    distribution: Literal["normal", "uniform", "lenet5"] = "normal"

    def fill(self, shape: tuple[int, ...], fan_in: int, fan_out: int, generator: np.random.Generator) -> np.ndarray:
        if self.distribution == "lenet5":
            return draw(shape, 2.4 / fan_in / sqrt(3.0), "uniform", generator)
        return draw(shape, sqrt(1.0 / fan_in), self.distribution, generator)
