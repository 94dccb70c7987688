"""Functions made of ops: activations, softmax, norms, dropout. Their gradients follow from their parts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dlc.compiler.ir import N, ShapeError, Value
from dlc.compiler.ops.elementwise import (
    add,
    divide,
    greater,
    greater_equal,
    log,
    maximum,
    multiply,
    negative,
    power,
    subtract,
    where,
)
from dlc.compiler.ops.functions import absolute, clip, detach, erf, exp, expm1, log1p, sigmoid, tanh
from dlc.compiler.ops.indexing import show, static
from dlc.compiler.ops.normalization import standardize
from dlc.compiler.ops.random import random_uniform
from dlc.compiler.ops.reduction import mean, reduce_max, reduce_sum
from dlc.compiler.ops.shape import reshape
from dlc.compiler.ops.slicing import concat, pad, strided_slice


def softmax(x: Value, axis: int = -1) -> Value:
    """exp(x) / Σ exp(x) along an axis, the maximum subtracted first."""
    powers = exp(subtract(x, detach(reduce_max(x, axis, keep=True))))
    return divide(powers, reduce_sum(powers, axis, keep=True))


def log_softmax(x: Value, axis: int = -1) -> Value:
    """x - log Σ exp(x) along an axis, the maximum subtracted first."""
    shifted = subtract(x, detach(reduce_max(x, axis, keep=True)))
    return subtract(shifted, log(reduce_sum(exp(shifted), axis, keep=True)))


def leaky_relu(x: Value, slope: float = 0.01) -> Value:
    """x where x > 0, else slope · x."""
    return where(greater(x, 0.0), x, multiply(x, slope))


def prelu(x: Value, slope: Value) -> Value:
    """leaky_relu with a trained slope, [C] or a scalar. Source: He et al., "Delving deep into rectifiers" (2015)."""
    return where(greater(x, 0.0), x, multiply(x, slope))


def relu6(x: Value) -> Value:
    """x held between 0 and 6; the gradient passes at both ends."""
    return clip(x, 0.0, 6.0)


def elu(x: Value, alpha: float = 1.0) -> Value:
    """x where x > 0, else alpha · (exp(x) - 1). Source: Clevert, Unterthiner, Hochreiter (2016)."""
    return where(greater(x, 0.0), x, multiply(expm1(clip(x, -100.0, 0.0)), alpha))  # exp(-100) rounds to 0


def selu(x: Value) -> Value:
    """The self-normalising scaled elu. Source: Klambauer et al. (2017)."""
    return multiply(elu(x, 1.6732632423543772), 1.0507009873554805)


def gelu(x: Value) -> Value:
    """x · Φ(x), Φ the normal distribution function. Source: Hendrycks, Gimpel (2016)."""
    return multiply(multiply(x, 0.5), add(erf(multiply(x, math.sqrt(0.5))), 1.0))


def gelu_tanh(x: Value) -> Value:
    """gelu approximated by tanh: x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))."""
    cubic = add(x, multiply(multiply(multiply(x, x), x), 0.044715))
    return multiply(multiply(x, 0.5), add(tanh(multiply(cubic, math.sqrt(2.0 / math.pi))), 1.0))


def silu(x: Value) -> Value:
    """x · sigmoid(x), also called swish."""
    return multiply(x, sigmoid(x))


def softplus(x: Value) -> Value:
    """log(1 + exp(x)) without overflow: max(x, 0) + log(1 + exp(-|x|))."""
    return add(maximum(x, 0.0), log1p(exp(negative(absolute(x)))))


def softsign(x: Value) -> Value:
    """x / (1 + |x|)."""
    return divide(x, add(absolute(x), 1.0))


def mish(x: Value) -> Value:
    """x · tanh(softplus(x))."""
    return multiply(x, tanh(softplus(x)))


def hard_sigmoid(x: Value) -> Value:
    """relu6(x + 3) / 6. Source: Howard et al., MobileNetV3 (2019)."""
    return multiply(relu6(add(x, 3.0)), 1.0 / 6.0)


def hard_swish(x: Value) -> Value:
    """x · hard_sigmoid(x). Source: Howard et al., MobileNetV3 (2019)."""
    return multiply(x, hard_sigmoid(x))


def scaled_tanh(x: Value, amplitude: float = 1.7159, slope: float = 2.0 / 3.0) -> Value:
    """amplitude · tanh(slope · x). Source: LeCun et al., "Gradient-based learning" (1998), appendix A."""
    return multiply(tanh(multiply(x, slope)), amplitude)


def square(x: Value) -> Value:
    """x²."""
    return multiply(x, x)


def dropout(x: Value, p: float, stream: int, seed: Value, step: Value) -> Value:
    """Inverted dropout: each element 0 with probability p, else x / (1 - p). The batch must be fixed."""
    if p <= 0.0:
        return x
    if p >= 1.0:
        return multiply(x, 0.0)
    kept = greater_equal(random_uniform(x.type.shape, stream, seed, step), p)
    return where(kept, multiply(x, 1.0 / (1.0 - p)), 0.0)


def dropout_original(x: Value, p: float, stream: int, seed: Value, step: Value) -> Value:
    """Dropout as first published: elements are dropped in training, unscaled; inference multiplies by 1 - p."""
    if p <= 0.0:
        return x
    kept = greater_equal(random_uniform(x.type.shape, stream, seed, step), p)
    return where(kept, x, 0.0)


def layer_norm(x: Value, gamma: Value, beta: Value, eps: float = 1e-5) -> Value:
    """Each sample standardised over all its elements, then · gamma + beta; both have x's shape without the batch."""
    return add(multiply(standardize(x, range(1, x.type.rank), eps), gamma), beta)


def instance_norm(x: Value, gamma: Value, beta: Value, eps: float = 1e-5) -> Value:
    """[N, H, W, C]: each sample's channel standardised over its pixels, then · gamma + beta, each [C]."""
    return add(multiply(standardize(x, (1, 2), eps), gamma), beta)


def group_norm(x: Value, gamma: Value, beta: Value, groups: int, eps: float = 1e-5) -> Value:
    """[N, H, W, C]: each sample standardised over its pixels and C/groups neighbouring channels, then · gamma + beta."""
    batch, height, width, channels = x.type.shape
    size, rest = divmod(static((channels,))[0], groups)
    if rest:
        raise ShapeError(f"{groups} groups do not divide the channels of {show(x.type.shape)}")
    grouped = standardize(reshape(x, (batch, height, width, groups, size)), (1, 2, 4), eps)
    return add(multiply(reshape(grouped, x.type.shape), gamma), beta)


def local_response_norm(x: Value, size: int, alpha: float, beta: float, k: float) -> Value:
    """x / (k + alpha · Σ x²)^beta, the sum over `size` neighbouring channels (the last axis), zeros beyond the ends.

    Source: Krizhevsky, Sutskever, Hinton (2012), section 3.3. PyTorch's form has alpha divided by `size`.
    """
    rank, channels = x.type.rank, static(x.type.shape[-1:])[0]
    before, after = [0] * rank, [0] * rank
    before[-1], after[-1] = size // 2, (size - 1) // 2
    squares = pad(square(x), before, after)
    total: Value | None = None
    for offset in range(size):
        start: list[int] = [0] * rank
        stop: list[int | None] = [None if d is N else int(d) for d in x.type.shape]
        start[-1], stop[-1] = offset, offset + channels
        neighbour = strided_slice(squares, start, stop)
        total = neighbour if total is None else add(total, neighbour)
    if total is None:
        raise ShapeError("a local response norm needs a size of at least 1")
    return multiply(x, power(add(multiply(total, alpha), k), -beta))


def adaptive_avg_pool(x: Value, size: tuple[int, int]) -> Value:
    """[N, H, W, C] to [N, *size, C]: window i of an axis reaches from ⌊i·H/size⌋ to ⌈(i+1)·H/size⌉ (as PyTorch)."""
    for axis, windows in zip((1, 2), size, strict=True):
        x = _adaptive(x, axis, windows)
    return x


def _adaptive(x: Value, axis: int, windows: int) -> Value:
    length = static((x.type.shape[axis],))[0]
    if windows == length:
        return x
    if windows == 1:
        return mean(x, axis, keep=True)
    if length % windows == 0:
        shape = x.type.shape
        return mean(reshape(x, (*shape[:axis], windows, length // windows, *shape[axis + 1 :])), axis + 1)
    parts = []
    for i in range(windows):
        part = _span(x, axis, i * length // windows, -(-(i + 1) * length // windows))
        parts.append(mean(part, axis, keep=True))
    return concat(parts, axis)


def _span(x: Value, axis: int, start: int, stop: int) -> Value:
    starts: list[int] = [0] * x.type.rank
    stops: list[int | None] = [None if d is N else int(d) for d in x.type.shape]
    starts[axis], stops[axis] = start, stop
    return strided_slice(x, starts, stops)


def global_avg_pool(x: Value) -> Value:
    """[N, H, W, C] to [N, C]: the mean over the pixels."""
    return mean(x, (1, 2))


def global_max_pool(x: Value) -> Value:
    """[N, H, W, C] to [N, C]: the maximum over the pixels."""
    return reduce_max(x, (1, 2))


def mean_squared_error(x: Value, target: Value) -> Value:
    """The mean of (x - target)² over all elements, a scalar."""
    return mean(square(subtract(x, target)), tuple(range(x.type.rank)))


def cross_entropy(logits: Value, targets: Value, axis: int = -1) -> Value:
    """-Σ targets · log_softmax(logits) along an axis; `targets` are probabilities of the logits' shape."""
    return negative(reduce_sum(multiply(targets, log_softmax(logits, axis)), axis))


def add_all(values: Sequence[Value]) -> Value:
    """The sum of the values, from the left."""
    total = values[0]
    for value in values[1:]:
        total = add(total, value)
    return total
