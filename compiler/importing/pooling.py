"""Pooling from ONNX."""

from __future__ import annotations

from typing import Literal

import numpy as np

from dlc.compiler.importing.values import Flow, Known, Reader, Refusal, Site
from dlc.compiler.importing.windows import padding, plain_pair, window
from dlc.compiler.layers.geometry import Pair, Rounding, pair
from dlc.compiler.layers.pooling import AdaptiveAvgPool, AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool


def max_pool(site: Site) -> tuple[Flow, Flow]:
    """MaxPool, and the places of the largest, which nothing may use."""
    kernel = site.attribute("kernel_shape", ())
    site.insist(window(site, "dilations", kernel) == 1, "its window is dilated")
    pad = padding(site, kernel)
    made = site.layer(lambda: MaxPool(plain_pair(kernel), _stride(site, kernel), pad, _rounding(site)), site.x)
    return made, site.part("Places of the largest", made.shape, site.x)


def average_pool(site: Site) -> Flow:
    """AveragePool; one over single pixels is the image itself."""
    kernel = site.attribute("kernel_shape", ())
    site.insist(window(site, "dilations", kernel) == 1, "its window is dilated")
    pad, size, stride = padding(site, kernel), plain_pair(kernel), _stride(site, kernel)
    if size == 1 and stride is None and pad == 0:
        return site.x
    counts = pad == 0 or bool(site.attribute("count_include_pad", 0))
    return site.layer(lambda: AvgPool(size, stride, pad, _rounding(site), counts), site.x)


def global_average_pool(site: Site) -> Flow:
    """GlobalAveragePool, which keeps the axes: [C, 1, 1]."""
    return site.layer(AdaptiveAvgPool(1), site.x)


def global_max_pool(site: Site) -> Flow:
    """GlobalMaxPool, which keeps the axes: [C, 1, 1]."""
    return site.layer(lambda: MaxPool(plain_pair(site.x.shape[1:])), site.x)


def reduced(layer: GlobalAvgPool | GlobalMaxPool, kept: Reader) -> Reader:
    """The reader of ReduceMean and ReduceMax over height and width."""

    def read(site: Site) -> Flow:
        rank = len(site.x.shape) + 1
        axes = sorted(a % rank for a in site.integers("axes", 1, tuple(range(rank))))
        site.insist(axes == [2, 3] and rank == 4, f"it reduces the axes {axes}, not height and width")
        made = kept(site) if site.attribute("keepdims", 1) else site.layer(layer, site.x)
        assert isinstance(made, Flow)
        return made

    return read


def as_features(site: Site, x: Flow) -> Flow | None:
    """[C] of a pool over the whole image, [C, 1, 1], that is flattened; None for another tensor."""
    match x.layer:
        case AdaptiveAvgPool(1):
            return site.layer(GlobalAvgPool(), *x.inputs)
        case AvgPool(pad=0, kernel=kernel) if pair(kernel) == x.inputs[0].shape[1:]:
            return site.layer(GlobalAvgPool(), *x.inputs)
        case MaxPool(pad=0, kernel=kernel) if pair(kernel) == x.inputs[0].shape[1:]:
            return site.layer(GlobalMaxPool(), *x.inputs)
    return None


def region_means(site: Site) -> Flow | None:
    """Products of an image with a matrix for each axis, if these take means of regions; None for other products."""
    match site.inputs[0], site.inputs[1]:
        case Flow(shape=(channels, height, _), layer=layer) as x, Known(array=columns) if columns.ndim == 2 and (
            layer is not None or not x.inputs
        ):
            return site.part("Columns", (channels, height, columns.shape[1]), x, matrix=columns)
        case Known(array=rows), Flow(op="Columns", inputs=(x,), facts={"matrix": columns}):
            size = len(rows), columns.shape[1]
            means = (_means(n, regions) for n, regions in zip(x.shape[1:], size, strict=True))
            if all(np.allclose(a, b, atol=1e-6) for a, b in zip((rows, columns.T), means, strict=True)):
                return site.layer(AdaptiveAvgPool(plain_pair(size)), x)
            raise Refusal("it multiplies the pixels of an image with a matrix")
    return None


def _means(size: int, regions: int) -> np.ndarray:
    """[regions, size]: each row takes the mean of floor(i * size / regions) to ceil((i + 1) * size / regions)."""
    matrix = np.zeros((regions, size), np.float32)
    for i in range(regions):
        start, stop = i * size // regions, -(-(i + 1) * size // regions)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _stride(site: Site, kernel: tuple[int, ...]) -> Pair | None:
    """The stride; None where it is the kernel's size, the language's default. ONNX's default is 1."""
    stride = window(site, "strides", kernel)
    return None if stride == plain_pair(kernel) else stride


def _rounding(site: Site) -> Rounding:
    ceil: Literal["floor", "ceil"] = "ceil" if site.attribute("ceil_mode", 0) else "floor"
    return ceil


OPERATORS: dict[str, Reader] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "MaxPool": max_pool,
    "ReduceMax": reduced(GlobalMaxPool(), global_max_pool),
    "ReduceMean": reduced(GlobalAvgPool(), global_average_pool),
}
"""The operators of this family by their names."""
