"""Sums and products from ONNX: of tensors, and with constants, which often belong to the layer before."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np

from dlc.compiler.importing import activation
from dlc.compiler.importing.values import Flow, Item, Known, Reader, Refusal, Site, per_channel, short
from dlc.compiler.layers.activation import Offset, Scale
from dlc.compiler.layers.affine import Affine
from dlc.compiler.layers.arithmetic import Add, Multiply
from dlc.compiler.layers.convolution import Conv, ConvTranspose
from dlc.compiler.layers.geometry import pair
from dlc.compiler.layers.linear import Linear
from dlc.compiler.layers.normalization import BatchNorm, GroupNorm, InstanceNorm
from dlc.compiler.layers.pooling import AvgPool, MaxPool, MinPool, Subsample
from dlc.compiler.layers.rbf import Rbf
from dlc.compiler.layers.shape import Reshape


def add(site: Site) -> Flow:
    """Add, and Sum of any number."""
    return reduce(lambda a, b: _added(site, a, b), _items(site))  # type: ignore[return-value]  # one of them flows


def multiply(site: Site) -> Flow:
    """Mul."""
    a, b = _items(site)
    if isinstance(b, Known):
        return _scaled(site, site.x, b)
    return _scaled(site, b, a) if isinstance(a, Known) else _product(site, a, b)


def subtract(site: Site) -> Flow:
    """Sub: x + -1 * y."""
    a, b = _items(site)
    if isinstance(b, Known):
        if isinstance(a, Flow) and a.op == "Unsqueeze" and b.array.ndim == 2:
            return site.part("Sub", a.shape, a, weight=b)
        return _shifted(site, site.x, Known(-b.array))
    negative = site.layer(Scale(-1.0), b)
    return _shifted(site, negative, a) if isinstance(a, Known) else site.layer(Add(), a, negative)


def divide(site: Site) -> Flow:
    """Div by a constant."""
    divisor = site.known(1, "divisor").array
    site.insist(bool(np.all(divisor != 0)), "its divisor is 0")
    return _scaled(site, site.x, Known((1 / divisor.astype(np.float64)).astype(np.float32)))


def negative(site: Site) -> Flow:
    """Neg, also of the largest of the negatives (min_pool), and of squared distances (rbf)."""
    match site.x:
        case Flow(layer=MaxPool() as pool, inputs=(Flow(layer=Scale(-1.0), inputs=(x,)),)):
            return site.layer(MinPool(pool.kernel, pool.stride, pool.pad, pool.round), x)
        case Flow(op="ReduceSumSquare", inputs=(Flow(op="Sub", inputs=(wide,), facts=facts),)):
            weight: Known = facts["weight"]
            return site.layer(_rbf(weight.array), wide.inputs[0], weight=weight)
    return site.layer(Scale(-1.0), site.x)


def sum_of_squares(site: Site) -> Flow:
    """ReduceSumSquare over what `rbf` subtracts."""
    wide = site.x.op == "Sub" and site.integers("axes", 1) in ((2,), (-1,)) and not site.attribute("keepdims", 1)
    site.insist(wide, "only squared distances to fixed prototypes are known, which are `rbf`")
    return site.part("ReduceSumSquare", site.x.shape[:1], site.x)


def _items(site: Site) -> list[Item]:
    """The inputs; a constant is aligned with the tensor as opsets before 7 say."""
    items = [i for i in site.inputs if i is not None]
    axis = site.attribute("axis", None)
    if site.opset < 7 and axis is not None and isinstance(items[-1], Known) and isinstance(items[0], Flow):
        array, rank = items[-1].array, len(items[0].shape) + 1
        items[-1] = items[-1].like(array.reshape(*array.shape, *(1,) * (rank - axis % rank - array.ndim)))
    return items


def _product(site: Site, a: Flow, b: Flow) -> Flow:
    named = activation.of_product(site, a, b)
    if named is not None:
        return named
    gate = [_gate(a, b), _gate(b, a)]
    return site.layer(Multiply(), *gate)


def _gate(x: Flow, other: Flow) -> Flow:
    """Features [C] that were given the form [C, 1, 1] beside an image: `multiply` takes them as they are."""
    match x:
        case Flow(layer=Reshape(), inputs=(features,), shape=(_, 1, 1)) if len(other.shape) == 3:
            return features if len(features.shape) == 1 else x
    return x


def _added(site: Site, a: Item, b: Item) -> Item:
    if isinstance(a, Known) and isinstance(b, Known):
        return Known(a.array + b.array)
    if isinstance(a, Flow) and isinstance(b, Flow):
        return site.layer(Add(), a, b)
    return _shifted(site, *((a, b) if isinstance(a, Flow) else (b, a)))


def _scaled(site: Site, x: Flow, by: Known) -> Flow:
    """x times a constant: a number, or one number per channel, which goes into the layer before if that can take it."""
    if by.array.size == 1:
        factor = short(by.array.item())
        named = activation.of_scaling(site, x, factor)
        return named or (x if factor == 1 else site.layer(Scale(factor), x))
    factors = _channels(by, x)
    if site.is_shared(x):
        return site.layer(Affine(bias=False), x, weight=by.like(factors))
    layer, weights = x.layer, x.weights
    match layer:
        case Conv() | Linear():
            wide = factors.reshape(-1, *(1,) * (weights["weight"].array.ndim - 1))
            return _again(
                site, x, layer, {k: v.like(v.array * (wide if k == "weight" else factors)) for k, v in weights.items()}
            )
        case BatchNorm(affine=True) | Affine():
            return _again(site, x, layer, {k: _times(v, factors, k in ("weight", "bias")) for k, v in weights.items()})
    return site.layer(Affine(bias=False), x, weight=by.like(factors))


def _shifted(site: Site, x: Flow, by: Known) -> Flow:
    """x plus a constant; as `_scaled`."""
    takes_bias = isinstance(x.layer, Conv | ConvTranspose | Linear | Affine) and x.shape[0] == 1
    if by.array.size == 1 and not takes_bias:
        amount = short(by.array.item())
        return x if amount == 0 else site.layer(Offset(amount), x)
    shifts = by.like(_channels(by, x) if by.array.size > 1 else np.full(x.shape[0], by.array.item(), np.float32))
    layer, weights = x.layer, x.weights
    if site.is_shared(x):
        return _affine(site, x, shifts)
    match layer:
        case Conv() | ConvTranspose() | Linear() | BatchNorm(affine=True) if "bias" in weights:
            old = weights["bias"]
            return _again(site, x, layer, {**weights, "bias": old.like(old.array + shifts.array)})
        case Conv() | ConvTranspose() | Linear():
            return _again(site, x, _with_bias(layer), {**weights, "bias": shifts})
        case Affine(bias=False):
            window = _summed(x.inputs[0])
            if window is not None:
                pool, image = window
                return site.layer(Subsample(pool.kernel, pool.stride), image, weight=weights["weight"], bias=shifts)
            norm = x.inputs[0]
            if isinstance(norm.layer, GroupNorm | InstanceNorm) and not norm.layer.affine and not site.is_shared(norm):
                affine = replace(norm.layer, affine=True)
                return site.layer(affine, *norm.inputs, weight=weights["weight"], bias=shifts)
            return _again(site, x, Affine(), {**weights, "bias": shifts})
        case Affine():
            return _again(
                site, x, layer, {**weights, "bias": weights["bias"].like(weights["bias"].array + shifts.array)}
            )
    return _affine(site, x, shifts)


def _affine(site: Site, x: Flow, shifts: Known) -> Flow:
    return site.layer(Affine(), x, weight=shifts.like(np.ones_like(shifts.array)), bias=shifts)


def _summed(x: Flow) -> tuple[AvgPool, Flow] | None:
    """The pool and its input, where x is the sum of each window: its mean times its area."""
    match x:
        case Flow(layer=Scale(by), inputs=(Flow(layer=AvgPool(pad=0, round="floor") as pool, inputs=(image,)),)):
            height, width = pair(pool.kernel)
            return (pool, image) if by == height * width else None
    return None


def _again(
    site: Site, x: Flow, layer: Conv | ConvTranspose | Linear | BatchNorm | Affine, weights: dict[str, Known]
) -> Flow:
    """A layer with other weights, in the place and under the name of the one it was."""
    return Flow(x.op, x.inputs, x.shape, x.node, layer, weights)


def _with_bias(layer: Conv | ConvTranspose | Linear) -> Conv | ConvTranspose | Linear:
    return replace(layer, bias=True)


def _times(known: Known, factors: np.ndarray, taken: bool) -> Known:
    return known.like(known.array * factors) if taken else known


def _channels(known: Known, x: Flow) -> np.ndarray:
    """One number per channel. Raises Refusal for a constant of another shape."""
    channels = per_channel(known.array, x.shape)
    if channels is None and known.array.ndim <= len(x.shape) + 1:
        raise Refusal(f"its constant {list(known.array.shape)} is neither a number nor one number per channel")
    if channels is None or len(channels) != x.shape[0]:
        raise Refusal(f"its constant {list(known.array.shape)} does not go with a tensor {list(x.shape)}")
    return channels


def _rbf(prototypes: np.ndarray) -> Rbf:
    """`rbf`, with the drawings of digits where these are the prototypes."""
    classes, features = prototypes.shape
    if features == 84 and classes <= 10:
        spec = Rbf(classes).parameters((features,))["weight"]
        assert spec.init is not None
        drawings = spec.init.fill(spec.shape, 1, 1, np.random.default_rng(0))
        if np.array_equal(drawings, prototypes):
            return Rbf(classes)
    return Rbf(classes, "random")


OPERATORS: dict[str, Reader] = {
    "Add": add,
    "Div": divide,
    "Mul": multiply,
    "Neg": negative,
    "ReduceSumSquare": sum_of_squares,
    "Sub": subtract,
    "Sum": add,
}
"""The operators of this family by their names."""
