"""Reverse-mode differentiation: a graph's gradients are more values of the same graph."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.compiler.ir import NotDifferentiable, Source, Value
from dlc.compiler.ir.graph import Graph
from dlc.compiler.ops.base import constant
from dlc.compiler.ops.elementwise import add
from dlc.compiler.ops.reduction import reduce_sum
from dlc.compiler.ops.shape import broadcast_to, reshape


def gradients(loss: Value, wrt: Sequence[Value]) -> list[Value]:
    """The gradients of a scalar `loss` by each value of `wrt`, each of that value's type; zeros where it has no part.

    A gradient value carries the span and the label of the forward value that it belongs to. Raises NotDifferentiable,
    naming the op and its place in the spec, where an op without a gradient stands between the loss and a value of `wrt`.
    """
    if loss.type.shape != () or not loss.type.dtype.is_float:
        raise NotDifferentiable(f"the loss is {loss.type}; only a scalar of floats has gradients")
    order = Graph("", (), {"loss": loss}).values
    active = _dependents(order, wrt)
    contributions: dict[Value, list[Value]] = {v: [] for v in order}
    contributions[loss].append(constant(1.0, loss.type.dtype))
    total: dict[Value, Value] = {}
    for value in reversed(order):
        if value not in active or not contributions[value]:
            continue
        total[value] = _sum(contributions[value])
        if isinstance(value.op, Source) or not any(o in active for o in value.operands):
            continue
        for operand, gradient in zip(value.operands, _backward(value, total[value]), strict=True):
            if gradient is not None and operand in active:
                contributions[operand].append(gradient)
    return [total.get(v) or _zeros(v) for v in wrt]


def _dependents(order: Sequence[Value], wrt: Sequence[Value]) -> set[Value]:
    """The values that a change of `wrt` can change."""
    active = set(wrt)
    for value in order:
        if any(o in active for o in value.operands):
            active.add(value)
    return active


def _backward(value: Value, upstream: Value) -> list[Value | None]:
    """The gradients by the operands of `value`, in the operands' shapes, labelled as `value` is."""
    try:
        raw = value.op.gradient(value, upstream)
    except NotDifferentiable as error:
        place = f" at {value.span}" if value.span else ""
        layer = f" of {value.label}" if value.label else ""
        raise NotDifferentiable(f"{error}{layer}{place} has no gradient") from None
    known = {value, upstream, *value.operands}
    memo: dict[Value, Value] = {}
    fitted = [None if g is None else sum_to(g, o) for g, o in zip(raw, value.operands, strict=True)]
    return [None if g is None else _relabel(g, value, known, memo) for g in fitted]


def sum_to(gradient: Value, operand: Value) -> Value:
    """A gradient in the shape of a broadcast result, summed over the axes along which `operand` was stretched."""
    shape, target = gradient.type.shape, operand.type.shape
    if shape == target:
        return gradient
    new = len(shape) - len(target)
    stretched = [a for a in range(len(shape)) if a < new or (target[a - new] == 1 and shape[a] != 1)]
    return reshape(reduce_sum(gradient, stretched) if stretched else gradient, target)


def _relabel(value: Value, like: Value, known: set[Value], memo: dict[Value, Value]) -> Value:
    """`value`, and what was made for it, under the span and label of `like`; `known` values stay as they are."""
    if value in known or isinstance(value.op, Source):
        return value
    if value not in memo:
        operands = tuple(_relabel(o, like, known, memo) for o in value.operands)
        memo[value] = Value(value.op, operands, value.type, like.span, like.label)
    return memo[value]


def _sum(contributions: Sequence[Value]) -> Value:
    """The sum, from the left: in the order in which the users of a value are met, so it never varies."""
    total = contributions[0]
    for contribution in contributions[1:]:
        total = add(total, contribution)
    return total


def _zeros(value: Value) -> Value:
    return broadcast_to(constant(0.0, value.type.dtype), value.type.shape)
