"""Activations, softmax and dropout in ONNX."""

from __future__ import annotations

from dlc.compiler.export.site import Item, Site
from dlc.compiler.layers import activation as layers
from dlc.compiler.layers.base import Layer
from dlc.compiler.layers.dropout import Dropout
from dlc.compiler.layers.softmax import LogSoftmax, Softmax


def write(layer: Layer, site: Site, x: Item, *rest: Item) -> Item | None:
    """The layer's result; None for a layer of another family."""
    match layer:
        case layers.Identity():
            return x
        case layers.Relu():
            return site.node("Relu", x)
        case layers.Sigmoid():
            return site.node("Sigmoid", x)
        case layers.Tanh():
            return site.node("Tanh", x)
        case layers.ScaledTanh():
            squashed = site.node("Tanh", site.node("Mul", x, site.number(layer.slope)))
            return site.node("Mul", squashed, site.number(layer.amplitude))
        case layers.LeakyRelu():
            return site.node("LeakyRelu", x, alpha=layer.slope)
        case layers.Prelu():
            return site.node("PRelu", x, site.per_channel("weight"))
        case layers.Elu():
            return site.node("Elu", x, alpha=layer.alpha)
        case layers.Selu():
            return site.node("Selu", x)
        case layers.Gelu():
            return site.node("Gelu", x, approximate=layer.approximate)
        case layers.Silu():
            return site.node("Mul", x, site.node("Sigmoid", x))
        case layers.HardSigmoid():
            return site.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)
        case layers.HardSwish():
            return site.node("HardSwish", x)
        case layers.Softplus():
            return site.node("Softplus", x)
        case layers.Clip():
            return site.node("Clip", x, site.number(layer.low), site.number(layer.high))
        case layers.Scale():
            return site.node("Mul", x, site.number(layer.by))
        case layers.Offset():
            return site.node("Add", x, site.number(layer.by))
        case Softmax():
            return site.node("Softmax", x, axis=1)
        case LogSoftmax():
            return site.node("LogSoftmax", x, axis=1)
        case Dropout():
            scaled = layer.at == "inference" and layer.p
            return site.node("Mul", x, site.number(1 - layer.p)) if scaled else x
    return None
