"""Ops that centre and scale by given statistics.

Their gradients by x are total: they count that mean and variance were computed from that same x. This takes two sums over
the activations instead of the five that differentiating the composition takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dlc.compiler.ir import N, NotDifferentiable, Sample, TensorType, Value, apply
from dlc.compiler.ops.base import Elementwise, float_type
from dlc.compiler.ops.elementwise import add, divide, multiply, subtract
from dlc.compiler.ops.functions import sqrt
from dlc.compiler.ops.indexing import count
from dlc.compiler.ops.reduction import mean, reduce_sum
from dlc.compiler.ops.shape import reshape


@dataclass(frozen=True)
class BatchNorm(Elementwise):
    """(x - mean) / √(variance + eps) · gamma + beta, per channel (the last axis).

    Operands: x, then mean, biased variance, gamma and beta, each [C], mean and variance being those of x over all axes
    but the last. Source: Ioffe, Szegedy, "Batch normalization" (ICML 2015), algorithm 1; the gradient is section 3's.
    """

    eps: float

    def formula(self, m: Any, *x: Any) -> Any:
        value, centre, variance, gamma, beta = x
        return (value - centre) * (gamma / m.sqrt(variance + self.eps)) + beta

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        x, centre, variance, gamma, _ = result.operands
        axes = tuple(range(x.type.rank - 1))
        number = _number(x.type, axes)
        scale = divide(1.0, sqrt(add(variance, self.eps)))
        standard = multiply(subtract(x, centre), scale)
        by_beta = reduce_sum(upstream, axes)
        by_gamma = reduce_sum(multiply(upstream, standard), axes)
        shared = add(multiply(by_beta, 1.0 / number), multiply(standard, multiply(by_gamma, 1.0 / number)))
        by_x = multiply(subtract(upstream, shared), multiply(gamma, scale))
        return by_x, None, None, by_gamma, by_beta

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for shape in ((N, 3, 5, 4), (N, 7)):
            operands = (TensorType(shape), *(float_type(int(shape[-1])) for _ in range(4)))
            yield Sample(cls(1e-5), operands, low=0.5, differentiable=False)


@dataclass(frozen=True)
class Standardize(Elementwise):
    """(x - mean) / √(variance + eps), the statistics being those of x over `axes` (which they keep, with size 1)."""

    axes: tuple[int, ...]
    eps: float

    def formula(self, m: Any, *x: Any) -> Any:
        value, centre, variance = x
        return (value - centre) / m.sqrt(variance + self.eps)

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        variance = result.operands[2]
        aligned = multiply(result, mean(multiply(upstream, result), self.axes, keep=True))
        centred = subtract(subtract(upstream, mean(upstream, self.axes, keep=True)), aligned)
        return divide(centred, sqrt(add(variance, self.eps))), None, None

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        statistic = float_type(N, 1, 1, 4)
        yield Sample(cls((1, 2), 1e-5), (float_type(N, 3, 5, 4), statistic, statistic), low=0.5, differentiable=False)


def _number(x: TensorType, axes: tuple[int, ...]) -> int:
    """How many elements each statistic is taken over."""
    sizes = tuple(x.shape[a] for a in axes)
    if N in sizes:
        raise NotDifferentiable("batch_norm over a batch of unknown size; training fixes the batch")
    return count(sizes)


def batch_norm_training(x: Value, gamma: Value, beta: Value, eps: float = 1e-5) -> tuple[Value, Value, Value]:
    """x ([N, H, W, C] or [N, F]) normalised by its own statistics; with its mean and biased variance, each [C]."""
    centre, variance = moments(x, tuple(range(x.type.rank - 1)))
    return apply(BatchNorm(eps), x, centre, variance, gamma, beta), centre, variance


def batch_norm_inference(
    x: Value, gamma: Value, beta: Value, running_mean: Value, running_variance: Value, eps: float = 1e-5
) -> Value:
    """x · scale + shift with [C] vectors of parameters, a form that folds into the weights of a convolution before it."""
    scale = divide(gamma, sqrt(add(running_variance, eps)))
    shift = subtract(beta, multiply(running_mean, scale))
    return add(multiply(x, scale), shift)


def moments(x: Value, axes: Sequence[int], keep: bool = False) -> tuple[Value, Value]:
    """The mean and the biased variance over axes, in two passes (accurate however far the mean is from 0)."""
    centre = mean(x, axes, keep)
    difference = subtract(x, reshape(centre, tuple(1 if a in axes else d for a, d in enumerate(x.type.shape))))
    return centre, mean(multiply(difference, difference), axes, keep)


def standardize(x: Value, axes: Sequence[int], eps: float = 1e-5) -> Value:
    """x less its mean over axes, divided by its standard deviation there: the core of layer, group and instance norm."""
    centre, variance = moments(x, axes, keep=True)
    return apply(Standardize(tuple(axes), eps), x, centre, variance)
