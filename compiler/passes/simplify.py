"""Simplify: what changes nothing goes; equal values are computed once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlc.compiler.ir import Constant, Graph, ShapeError, TensorType, Value, source
from dlc.compiler.ops.base import Elementwise
from dlc.compiler.ops.elementwise import (
    Add,
    Cast,
    Divide,
    Greater,
    Multiply,
    Power,
    Subtract,
    Where,
    add,
    divide,
    greater,
    multiply,
    subtract,
    where,
)
from dlc.compiler.ops.functions import Detach, sqrt
from dlc.compiler.ops.indexing import static
from dlc.compiler.ops.normalization import BatchNorm, Standardize
from dlc.compiler.ops.pooling import MaxPoolPlaces, PlacedGradient
from dlc.compiler.ops.shape import BroadcastTo, Flatten, Reshape, Transpose, broadcast_to, reshape, transpose
from dlc.compiler.ops.slicing import Concat, Pad, Slice
from dlc.compiler.passes.rewrite import constant_number, like, rewrite


@dataclass(frozen=True)
class Simplify:
    """x · 1 → x, x + 0 → x, transposes of transposes, views of views, transposes of size-1 axes → views, powers.

    `expand_norms` writes normalisation as products and sums with vectors that small kernels compute; it must not run
    before differentiation, where these ops have gradients of their own.
    """

    expand_norms: bool = False

    def __call__(self, graph: Graph) -> Graph:
        """The simpler graph, with the same outputs and updates."""
        rules = [_neutral, _power, _transpose, _view, _constant, _broadcast, _nothing, _mask_of_pool]
        if self.expand_norms:
            rules.append(_norm)
        return rewrite(graph, *rules)


def _neutral(value: Value) -> Value | None:
    """x · 1 → x; x + 0 → x; x - 0 → x; x / 1 → x; where x has the result's shape."""
    neutral: float
    match value.op:
        case Add() | Subtract():
            neutral = 0.0
        case Multiply() | Divide():
            neutral = 1.0
        case _:
            return None
    x, y = value.operands
    if constant_number(y) == neutral and x.type == value.type:
        return x
    if isinstance(value.op, Add | Multiply) and constant_number(x) == neutral and y.type == value.type:
        return y
    return None


def _power(value: Value) -> Value | None:
    """x ** 1 → x, 2 → x · x, ½ → √x, ¾ → √x · √√x, and their inverses."""
    if not isinstance(value.op, Power):
        return None
    x, y = value.operands
    exponent = constant_number(y)
    if exponent is None or x.type != value.type:
        return None
    if exponent < 0:
        positive = _product(x, -exponent)
        return None if positive is None else like(value, divide, 1.0, positive)
    return _product(x, exponent)


def _product(x: Value, exponent: float) -> Value | None:
    if exponent == 1:
        return x
    if exponent == 2:
        return multiply(x, x)
    if exponent == 3:
        return multiply(multiply(x, x), x)
    if exponent == 0.5:
        return sqrt(x)
    if exponent == 0.75:
        return multiply(sqrt(x), sqrt(sqrt(x)))
    return None


def _transpose(value: Value) -> Value | None:
    """Transposes of transposes become one; those that only move axes of size 1, views; flattening too."""
    if isinstance(value.op, Flatten):
        _, height, width, channels = value.operands[0].type.shape
        if channels == 1 or (height, width) == (1, 1):
            return like(value, reshape, value.operands[0], value.type.shape)
        return None
    if not isinstance(value.op, Transpose):
        return None
    (x,) = value.operands
    order = value.op.order
    if isinstance(x.op, Transpose):
        return like(value, transpose, x.operands[0], tuple(x.op.order[a] for a in order))
    moved = [a for a in order if x.type.shape[a] != 1]
    if moved == sorted(moved):
        return like(value, reshape, x, value.type.shape)
    return None


def _view(value: Value) -> Value | None:
    """Views of views become one; those that change nothing go."""
    if not isinstance(value.op, Reshape):
        return None
    (x,) = value.operands
    if x.type.shape == value.type.shape:
        return x
    if isinstance(x.op, Reshape):
        return like(value, reshape, x.operands[0], value.type.shape)
    return None


def _constant(value: Value) -> Value | None:
    """A constant's view is a constant; element-wise ops take a constant of one element as a number."""
    if isinstance(value.op, Reshape) and isinstance(value.operands[0].op, Constant):
        array = value.operands[0].op.value
        return _given(value, array.reshape(static(value.type.shape)))
    if not isinstance(value.op, Elementwise):
        return None
    numbers = [
        _given(o, o.op.value.reshape(())) if isinstance(o.op, Constant) and o.op.value.size == 1 and o.type.rank else o
        for o in value.operands
    ]
    if all(a is b for a, b in zip(numbers, value.operands, strict=True)):
        return None
    if value.op.infer(*(o.type for o in numbers)) != value.type:
        return None
    return Value(value.op, tuple(numbers), value.type, value.span, value.label)


def _given(value: Value, array: np.ndarray) -> Value:
    """An array in the place of a value."""
    return source(Constant("", TensorType(array.shape, value.type.dtype), array), value.span, value.label)


def _broadcast(value: Value) -> Value | None:
    """Element-wise ops stretch their operands themselves: f(broadcast(x), y) → f(x, y) where y has the full shape."""
    if isinstance(value.op, BroadcastTo) and isinstance(value.operands[0].op, BroadcastTo):
        return like(value, broadcast_to, value.operands[0].operands[0], value.type.shape)
    if not isinstance(value.op, Elementwise):
        return None
    for i, operand in enumerate(value.operands):
        if not isinstance(operand.op, BroadcastTo):
            continue
        operands = (*value.operands[:i], operand.operands[0], *value.operands[i + 1 :])
        try:
            same = value.op.infer(*(o.type for o in operands)) == value.type
        except ShapeError:
            continue
        if same:
            return Value(value.op, operands, value.type, value.span, value.label)
    return None


def _nothing(value: Value) -> Value | None:
    """Ops that give back their operand: detach, casts to the same type, empty pads, whole slices, concat of one."""
    match value.op:
        case Detach() | Cast() | Slice() | Concat() | BroadcastTo():
            x = value.operands[0]
            whole = not isinstance(value.op, Slice) or not any(s != 1 for s in value.op.step)
            return x if len(value.operands) == 1 and whole and x.type == value.type else None
        case Pad():
            return value.operands[0] if value.operands[0].type == value.type else None
    return None


def _mask_of_pool(value: Value) -> Value | None:
    """The gradient through max_pool(relu(x)): relu's mask is that of the maxima, which are fewer than the elements of x.

    An element with a gradient is the maximum of its windows, so it is above 0 if and only if they are.
    """
    if not isinstance(value.op, Where) or not isinstance(value.operands[1].op, PlacedGradient):
        return None
    mask, gradient, other = value.operands
    places, upstream = gradient.operands
    if not isinstance(mask.op, Greater) or not isinstance(places.op, MaxPoolPlaces) or constant_number(other) != 0:
        return None
    image, maxima = places.operands
    if mask.operands[0] is not image or constant_number(mask.operands[1]) != 0:
        return None
    masked = like(value, where, like(value, greater, maxima, 0.0), upstream, 0.0)
    return Value(gradient.op, (places, masked), gradient.type, gradient.span, gradient.label)


def _norm(value: Value) -> Value | None:
    """(x - mean) / √(variance + eps) · gamma + beta with the vector gamma / √(variance + eps) computed once."""
    if isinstance(value.op, BatchNorm):
        x, centre, variance, gamma, beta = value.operands
        scale = like(value, divide, gamma, sqrt(add(variance, value.op.eps)))
        return like(value, add, multiply(subtract(x, centre), scale), beta)
    if isinstance(value.op, Standardize):
        x, centre, variance = value.operands
        scale = like(value, divide, 1.0, sqrt(add(variance, value.op.eps)))
        return like(value, multiply, subtract(x, centre), scale)
    return None
