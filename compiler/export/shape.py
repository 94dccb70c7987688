"""Sums, products, and layers that move or cut elements, in ONNX."""

from __future__ import annotations

from functools import reduce

import numpy as np

from dlc.compiler.export.site import Item, Site
from dlc.compiler.layers.arithmetic import Add, Multiply
from dlc.compiler.layers.base import Layer
from dlc.compiler.layers.geometry import pair, sides
from dlc.compiler.layers.shape import AXES, Concat, Crop, Flatten, Pad, Reshape, Slice, Upsample
from dlc.compiler.layers.shuffle import ChannelShuffle


def write(layer: Layer, site: Site, x: Item, *rest: Item) -> Item | None:
    """The layer's result; None for a layer of another family."""
    match layer:
        case Add():
            return reduce(lambda a, b: site.node("Add", a, b), rest, x)
        case Multiply():
            return _multiply(site, x, *rest)
        case Concat():
            return site.node("Concat", x, *rest, axis=AXES[layer.axis] + 1) if rest else x
        case Flatten():
            return site.node("Flatten", x) if len(site.shapes[0]) > 1 else x
        case Reshape():
            if len(site.call.output.shape) == 1:
                return site.node("Flatten", x)
            return site.node("Reshape", x, site.integers(0, *site.call.output.shape))
        case Pad():
            top, left, bottom, right = sides(layer.size, site.image, 1)
            before, behind = layer.around_channels
            pads = site.integers(0, before, top, left, 0, behind, bottom, right)
            return site.node("Pad", x, pads, site.number(layer.value), mode="constant")
        case Crop():
            (height, width), (h, w) = site.image, pair(layer.size)
            top, left = ((height - h) // 2, (width - w) // 2) if layer.at == "center" else (0, 0)
            return _slice(site, x, (top, left), (top + h, left + w), (2, 3))
        case Slice():
            axis = AXES[layer.axis]
            start, stop = layer.bounds(site.shapes[0][axis])
            return _slice(site, x, (start,), (stop,), (axis + 1,), (layer.step,))
        case ChannelShuffle():
            (channels, *size), groups = site.shapes[0], layer.groups
            grouped = site.node("Reshape", x, site.integers(0, groups, channels // groups, *size))
            turned = site.node("Transpose", grouped, perm=(0, 2, 1, 3, 4))
            return site.node("Reshape", turned, site.integers(0, channels, *size))
        case Upsample():
            return _upsample(layer, site, x)
    return None


def _multiply(site: Site, *inputs: Item) -> Item:
    """A gate [C] beside images is [C, 1, 1]."""
    rank = max(len(shape) for shape in site.shapes)
    aligned = [
        site.node("Unsqueeze", x, site.integers(2, 3)) if len(shape) < rank else x
        for x, shape in zip(inputs, site.shapes, strict=True)
    ]
    return reduce(lambda a, b: site.node("Mul", a, b), aligned)


def _slice(
    site: Site,
    x: Item,
    start: tuple[int, ...],
    stop: tuple[int, ...],
    axes: tuple[int, ...],
    step: tuple[int, ...] = (),
) -> Item:
    places = [site.integers(*start), site.integers(*stop), site.integers(*axes)]
    return site.node("Slice", x, *places, *([site.integers(*step)] if any(s != 1 for s in step) else []))


def _upsample(layer: Upsample, site: Site, x: Item) -> Item:
    scales = site.constant(np.array([1, 1, *pair(layer.factor)], np.float32))
    no_region = site.constant(np.zeros(0, np.float32))  # an input that only other modes read
    if layer.mode == "bilinear":
        mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    else:
        mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return site.node("Resize", x, no_region, scales, **mode)
