"""Convolutions, linear layers and RBF units in ONNX."""

from __future__ import annotations

import numpy as np

from dlc.compiler.export.site import Item, Site
from dlc.compiler.layers.base import Layer
from dlc.compiler.layers.connect import ConvConnect
from dlc.compiler.layers.convolution import Conv, ConvTranspose
from dlc.compiler.layers.geometry import pair, sides
from dlc.compiler.layers.linear import Linear
from dlc.compiler.layers.rbf import Rbf


def write(layer: Layer, site: Site, x: Item, *rest: Item) -> Item | None:
    """The layer's result; None for a layer of another family."""
    match layer:
        case Conv():
            return site.node(
                "Conv",
                *(x, site.weight("weight"), *_bias(layer.bias, site)),
                kernel_shape=pair(layer.kernel),
                strides=pair(layer.stride),
                pads=sides(layer.pad, site.image, layer.kernel, layer.stride, layer.dilation),
                dilations=pair(layer.dilation),
                group=layer.groups,
            )
        case ConvTranspose():
            return site.node(
                "ConvTranspose",
                *(x, site.weight("weight"), *_bias(layer.bias, site)),
                kernel_shape=pair(layer.kernel),
                strides=pair(layer.stride),
                pads=sides(layer.pad, site.image, layer.kernel),
                output_padding=pair(layer.output_pad),
                dilations=pair(layer.dilation),
                group=layer.groups,
            )
        case ConvConnect():
            return site.node(
                "Conv",
                *(x, _dense(layer, site), *_bias(layer.bias, site)),
                kernel_shape=pair(layer.kernel),
                strides=pair(layer.stride),
                pads=sides(layer.pad, site.image, layer.kernel, layer.stride),
            )
        case Linear():
            return site.node("Gemm", x, site.weight("weight"), *_bias(layer.bias, site), transB=1)
        case Rbf():  # [N, F] -> [N, 1, F] - [classes, F]
            difference = site.node("Sub", site.node("Unsqueeze", x, site.integers(1)), site.weight("weight"))
            distance = site.node("ReduceSumSquare", difference, site.integers(2), keepdims=0)
            return site.node("Neg", distance)
    return None


def _bias(has_bias: bool, site: Site) -> list[Item]:
    return [site.weight("bias")] if has_bias else []


def _dense(layer: ConvConnect, site: Site) -> Item:
    """The connected weights [connections, kh, kw] at their places among zeros [rows, C, kh, kw]."""
    zeros = site.node(
        "ConstantOfShape",
        site.integers(len(layer.table), site.shapes[0][0], *pair(layer.kernel)),
        value=np.zeros(1, np.float32),
    )
    places = [(number, channel) for number, row in enumerate(layer.table) for channel in row]
    return site.node("ScatterND", zeros, site.constant(np.array(places, np.int64)), site.weight("weight"))
