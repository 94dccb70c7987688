"""Pooling in ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.compiler.export.site import Item, Site
from dlc.compiler.layers.base import Layer
from dlc.compiler.layers.geometry import pair, window_output
from dlc.compiler.layers.pooling import (
    AdaptiveAvgPool,
    AvgPool,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
    MinPool,
    Pool,
    Subsample,
)


def write(layer: Layer, site: Site, x: Item, *rest: Item) -> Item | None:
    """The layer's result; None for a layer of another family."""
    match layer:
        case MaxPool():
            return site.node("MaxPool", x, **_window(layer, site))
        case MinPool():  # min x = -max -x
            return site.node("Neg", site.node("MaxPool", site.node("Neg", x), **_window(layer, site)))
        case AvgPool():
            return _avg_pool(layer, site, x)
        case GlobalAvgPool():
            return site.node("Flatten", site.node("GlobalAveragePool", x))
        case GlobalMaxPool():
            return site.node("Flatten", site.node("GlobalMaxPool", x))
        case AdaptiveAvgPool():
            return _adaptive(layer, site, x)
        case Subsample():
            area = np.prod(pair(layer.kernel))
            mean = site.node("AveragePool", x, kernel_shape=pair(layer.kernel), strides=layer.steps)
            total = site.node("Mul", mean, site.number(float(area)))
            return site.node("Add", site.node("Mul", total, site.per_channel("weight")), site.per_channel("bias"))
    return None


def _window(layer: Pool, site: Site) -> dict[str, Any]:
    """The attributes that windows have. `ceil_mode` is set only where rounding up makes a difference."""
    padding = layer.padding(*site.image)
    rounded_down = window_output(site.image, layer.kernel, layer.steps, padding)
    return {
        "kernel_shape": pair(layer.kernel),
        "strides": layer.steps,
        "pads": padding,
        "ceil_mode": int(site.call.output.shape[1:] != rounded_down),
    }


def _avg_pool(layer: AvgPool, site: Site, x: Item) -> Item:
    """Where rounding up adds to counted padding, the padding is made first: what is added never counts."""
    window = _window(layer, site)
    if layer.count_padding and window["ceil_mode"] and any(window["pads"]):
        top, left, bottom, right = window["pads"]
        padded = site.node("Pad", x, site.integers(0, 0, top, left, 0, 0, bottom, right))
        return site.node("AveragePool", padded, **window | {"pads": (0, 0, 0, 0)})
    return site.node("AveragePool", x, **window, count_include_pad=int(layer.count_padding and any(window["pads"])))


def _adaptive(layer: AdaptiveAvgPool, site: Site, x: Item) -> Item:
    """A pool of equal regions where the size divides the image; else means as products with a matrix for each axis."""
    size, image = pair(layer.size), site.image
    if size == image:
        return x
    if size == (1, 1):
        return site.node("GlobalAveragePool", x)
    if all(n % regions == 0 for n, regions in zip(image, size, strict=True)):
        kernel = tuple(n // regions for n, regions in zip(image, size, strict=True))
        return site.node("AveragePool", x, kernel_shape=kernel, strides=kernel)
    rows, columns = (_means(n, regions) for n, regions in zip(image, size, strict=True))
    return site.node("MatMul", site.constant(rows), site.node("MatMul", x, site.constant(columns.T.copy())))


def _means(size: int, regions: int) -> np.ndarray:
    """[regions, size]: each row takes the mean of floor(i * size / regions) to ceil((i + 1) * size / regions)."""
    matrix = np.zeros((regions, size), np.float32)
    for i in range(regions):
        start, stop = i * size // regions, -(-(i + 1) * size // regions)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix
