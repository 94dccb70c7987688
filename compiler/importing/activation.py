"""Activations, softmax and dropout from ONNX."""

from __future__ import annotations

from math import isclose, sqrt

import numpy as np

from dlc.compiler.importing.values import Flow, Reader, Refusal, Site, per_channel, short
from dlc.compiler.layers import activation as layers
from dlc.compiler.layers.base import Layer
from dlc.compiler.layers.dropout import Dropout
from dlc.compiler.layers.shape import Reshape
from dlc.compiler.layers.softmax import LogSoftmax, Softmax


def plain(layer: Layer) -> Reader:
    """The reader of an operator without attributes."""
    return lambda site: site.layer(layer, site.x)


def leaky_relu(site: Site) -> Flow:
    """LeakyRelu, alpha 0.01 if it is not said."""
    return site.layer(layers.LeakyRelu(short(site.attribute("alpha", 0.01))), site.x)


def elu(site: Site) -> Flow:
    """Elu, alpha 1 if it is not said."""
    return site.layer(layers.Elu(short(site.attribute("alpha", 1.0))), site.x)


def selu(site: Site) -> Flow:
    """Selu with the paper's constants."""
    usual = isclose(site.attribute("alpha", 1.67326), 1.67326, rel_tol=1e-4)
    usual = usual and isclose(site.attribute("gamma", 1.0507), 1.0507, rel_tol=1e-4)
    site.insist(usual, "its alpha and gamma are not the paper's")
    return site.layer(layers.Selu(), site.x)


def gelu(site: Site) -> Flow:
    """Gelu, exact or by tanh."""
    approximate = site.attribute("approximate", "none")
    return site.layer(layers.Gelu("tanh" if approximate == "tanh" else "none"), site.x)


def prelu(site: Site) -> Flow:
    """PRelu with one slope, or one per channel."""
    slope = site.known(1, "slope")
    if slope.array.size == 1:
        return site.layer(layers.Prelu(shared=True), site.x, weight=slope.like(slope.array.reshape(1)))
    channels = per_channel(slope.array, site.x.shape)
    if channels is None:
        raise Refusal(f"its slope {list(slope.array.shape)} is not one number per channel")
    return site.layer(layers.Prelu(), site.x, weight=slope.like(channels))


def hard_sigmoid(site: Site) -> Flow:
    """clip(alpha x + beta, 0, 1)."""
    alpha, beta = site.attribute("alpha", 0.2), site.attribute("beta", 0.5)
    if isclose(alpha, 1 / 6, rel_tol=1e-4) and isclose(beta, 0.5):
        return site.layer(layers.HardSigmoid(), site.x)
    line = site.layer(layers.Offset(short(beta)), site.layer(layers.Scale(short(alpha)), site.x))
    return site.layer(layers.Clip(0.0, 1.0), line)


def clip(site: Site) -> Flow:
    """Clip between two numbers; relu where it has no upper one."""
    low, high = (_bound(site, name, index) for index, name in enumerate(("min", "max"), 1))
    if high is None or high > 1e30:
        site.insist(low == 0, "it has no upper bound, and a lower one that is not 0")
        return site.layer(layers.Relu(), site.x)
    if low is None or low < -1e30:
        raise Refusal("it has no lower bound")
    return site.layer(lambda: layers.Clip(low, high), site.x)


def softmax(layer: Layer) -> Reader:
    """The reader of Softmax and LogSoftmax: over the channels, or over all features where there is one pixel."""

    def read(site: Site) -> Flow:
        x, rank = site.x, len(site.x.shape) + 1
        axis = site.attribute("axis", -1 if site.opset >= 13 else 1) % rank
        if site.opset < 13:
            site.insist(axis == 1, f"its axis is {axis}")
            if np.prod(x.shape[1:]) == 1:
                return site.layer(layer, x)
            flat = site.layer(Reshape((-1,)), x)
            return site.layer(Reshape(x.shape), site.layer(layer, flat))
        site.insist(axis == 1, f"its axis is {axis}, not the channels'")
        return site.layer(layer, x)

    return read


def dropout(site: Site) -> tuple[Flow, Flow]:
    """Dropout with its chance to drop, which says what training did; and its mask."""
    ratio = site.attribute("ratio", None)
    if ratio is None and site.has(1):
        ratio = float(site.known(1, "ratio").array.item())
    made = site.layer(lambda: Dropout(short(0.5 if ratio is None else ratio)), site.x)
    return made, site.part("Dropout mask", site.x.shape, site.x)


def erf(site: Site) -> Flow:
    """The error function, which is a part of gelu."""
    return site.part("Erf", site.x.shape, site.x)


def of_product(site: Site, a: Flow, b: Flow) -> Flow | None:
    """What a product of two tensors is called: x * sigmoid(x), x * hard_sigmoid(x), and x * (1 + erf(x / sqrt 2))."""
    for x, gate in ((a, b), (b, a)):
        match gate:
            case Flow(layer=layers.Sigmoid(), inputs=(inner,)) if inner is x:
                return site.layer(layers.Silu(), x)
            case Flow(layer=layers.HardSigmoid(), inputs=(inner,)) if inner is x:
                return site.layer(layers.HardSwish(), x)
            case Flow(layer=layers.Offset(1.0), inputs=(Flow(op="Erf", inputs=(inner,)),)):
                whole = x.inputs[0] if isinstance(x.layer, layers.Scale) and isclose(x.layer.by, 0.5) else None
                if _is_by(inner, x, sqrt(0.5)):
                    return site.part("TwiceGelu", x.shape, x)
                if whole is not None and _is_by(inner, whole, sqrt(0.5)):
                    return site.layer(layers.Gelu(), whole)
    return None


def of_scaling(site: Site, x: Flow, by: float) -> Flow | None:
    """What a tensor times a number is called: the parts of gelu, hard_swish, hard_sigmoid and scaled_tanh end so."""
    match x:
        case Flow(op="TwiceGelu", inputs=(inner,)) if isclose(by, 0.5):
            return site.layer(layers.Gelu(), inner)
        case Flow(layer=layers.Clip(0.0, 6.0), inputs=(Flow(layer=layers.Offset(3.0), inputs=(inner,)),)):
            return site.layer(layers.HardSigmoid(), inner) if isclose(by, 1 / 6, rel_tol=1e-5) else None
        case Flow(op="Mul", inputs=(a, b)) if isclose(by, 1 / 6, rel_tol=1e-5):
            for whole, gate in ((a, b), (b, a)):
                match gate:
                    case Flow(layer=layers.Clip(0.0, 6.0), inputs=(Flow(layer=layers.Offset(3.0), inputs=(i,)),)):
                        return site.layer(layers.HardSwish(), whole) if i is whole else None
        case Flow(layer=layers.Tanh(), inputs=(Flow(layer=layers.Scale(slope), inputs=(inner,)),)):
            usual = layers.ScaledTanh.slope
            known = usual if isclose(slope, usual, rel_tol=1e-5) else slope
            return site.layer(layers.ScaledTanh(short(by), known), inner) if not site.is_shared(x) else None
    return None


def _is_by(scaled: Flow, x: Flow, by: float) -> bool:
    """Whether a tensor is x times a number."""
    match scaled:
        case Flow(layer=layers.Scale(factor), inputs=(inner,)):
            return inner is x and isclose(factor, by, rel_tol=1e-5)
    return False


def _bound(site: Site, attribute: str, index: int) -> float | None:
    if attribute in site.attributes:
        return short(site.attributes[attribute])
    return short(site.known(index, attribute).array.item()) if site.has(index) else None


OPERATORS: dict[str, Reader] = {
    "Clip": clip,
    "Dropout": dropout,
    "Elu": elu,
    "Erf": erf,
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": plain(layers.HardSwish()),
    "LeakyRelu": leaky_relu,
    "LogSoftmax": softmax(LogSoftmax()),
    "PRelu": prelu,
    "Relu": plain(layers.Relu()),
    "Selu": selu,
    "Sigmoid": plain(layers.Sigmoid()),
    "Softmax": softmax(Softmax()),
    "Softplus": plain(layers.Softplus()),
    "Tanh": plain(layers.Tanh()),
}
"""The operators of this family by their names."""
