"""Normalisation in ONNX."""

from __future__ import annotations

import numpy as np

from dlc.compiler.export.site import Item, Site
from dlc.compiler.layers.affine import Affine
from dlc.compiler.layers.base import Layer
from dlc.compiler.layers.normalization import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm


def write(layer: Layer, site: Site, x: Item, *rest: Item) -> Item | None:
    """The layer's result; None for a layer of another family."""
    match layer:
        case BatchNorm():
            statistics = site.weight("running_mean"), site.weight("running_var")
            return site.node("BatchNormalization", x, *_affine(layer.affine, site), *statistics, epsilon=layer.eps)
        case Affine():
            y = site.node("Mul", x, site.per_channel("weight"))
            return site.node("Add", y, site.per_channel("bias")) if layer.bias else y
        case LayerNorm():
            return _layer_norm(layer, site, x)
        case GroupNorm():
            affine = _affine(layer.affine, site)
            return site.node("GroupNormalization", x, *affine, num_groups=layer.groups, epsilon=layer.eps)
        case InstanceNorm():
            return site.node("InstanceNormalization", x, *_affine(layer.affine, site), epsilon=layer.eps)
        case LocalResponseNorm():
            if layer.size % 2 == 0:
                raise site.refusal(
                    f"of an even size, {layer.size}, one channel more lies before than behind, in ONNX's LRN the reverse",
                    "use an odd size",
                )
            alpha = layer.alpha if layer.divide else layer.alpha * layer.size  # ONNX divides it by the size
            return site.node("LRN", x, size=layer.size, alpha=alpha, beta=layer.beta, bias=layer.k)
    return None


def _affine(affine: bool, site: Site) -> tuple[Item, Item]:
    """Weight and bias, one each per channel."""
    if affine:
        return site.weight("weight"), site.weight("bias")
    channels = site.shapes[0][0]
    return site.filled(channels, 1.0), site.filled(channels, 0.0)


def _layer_norm(layer: LayerNorm, site: Site, x: Item) -> Item:
    """Over axis 1 and all behind it; `over=channels` brings the channels of an image behind and back for it."""
    shape = site.shapes[0]
    turned = layer.over == "channels" and len(shape) == 3
    if turned:
        x, shape = site.node("Transpose", x, perm=(0, 2, 3, 1)), shape[:1]
    scale: Item = site.weight("weight") if layer.affine else site.constant(np.ones(shape, np.float32))
    inputs = (x, scale, site.weight("bias")) if layer.affine else (x, scale)
    y = site.node("LayerNormalization", *inputs, axis=-1 if turned else 1, epsilon=layer.eps)
    return site.node("Transpose", y, perm=(0, 3, 1, 2)) if turned else y
