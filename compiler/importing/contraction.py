"""Convolutions and linear layers from ONNX."""

from __future__ import annotations

import numpy as np

from dlc.compiler.importing.pooling import region_means
from dlc.compiler.importing.values import CHANNELS_LAST, Flow, Known, Reader, Site
from dlc.compiler.importing.windows import padding, plain_pair, window
from dlc.compiler.layers.connect import ConvConnect
from dlc.compiler.layers.convolution import Conv, ConvTranspose
from dlc.compiler.layers.linear import Linear
from dlc.compiler.layers.shape import Pad

Table = tuple[tuple[int, ...], ...]


def conv(site: Site) -> Flow:
    """Conv of images. A `Pad` of zeros before it becomes its padding."""
    weights = _weights(site)
    weight = weights["weight"]
    out, _, *kernel = weight.array.shape
    x, pad, groups = site.x, padding(site, kernel), site.attribute("group", 1)
    match x:
        case Flow(layer=Pad(channels=0, value=0.0, size=size)) if pad == 0 and not site.is_shared(x):
            x, pad = x.inputs[0], size
    stride, dilation = window(site, "strides", kernel), window(site, "dilations", kernel)
    table = connections(weight) if groups == 1 and dilation == 1 else None
    if table is not None:
        weights["weight"] = weight.inputs[2]
        return site.layer(
            lambda: ConvConnect(table, plain_pair(kernel), stride, pad, bias="bias" in weights), x, **weights
        )
    return site.layer(
        lambda: Conv(out, plain_pair(kernel), stride, pad, groups, dilation, bias="bias" in weights), x, **weights
    )


def conv_transpose(site: Site) -> Flow:
    """ConvTranspose of images."""
    weights = _weights(site)
    _, out, *kernel = weights["weight"].array.shape
    groups, pad = site.attribute("group", 1), padding(site, kernel)
    site.insist("output_shape" not in site.attributes, "it gives output_shape instead of padding")
    site.insist(not isinstance(pad, str), f"its auto_pad is {site.attribute('auto_pad', '')}")
    return site.layer(
        lambda: ConvTranspose(
            out * groups,
            plain_pair(kernel),
            window(site, "strides", kernel),
            pad,  # type: ignore[arg-type]  # no name, as was just asked
            plain_pair(site.attribute("output_padding", (0, 0))),
            groups,
            window(site, "dilations", kernel),
            bias="bias" in weights,
        ),
        site.x,
        **weights,
    )


def gemm(site: Site) -> Flow:
    """Gemm of features with a constant: a linear layer."""
    weight = site.known(1, "weight")
    site.insist(not site.attribute("transA", 0), "it transposes its input")
    matrix = weight.array if site.attribute("transB", 0) else weight.array.T
    weights = {"weight": weight.like(_times(matrix, site.attribute("alpha", 1.0)))}
    if site.has(2):
        bias = site.known(2, "bias")
        fits = bias.array.size in (1, len(matrix))
        site.insist(fits, f"its bias {list(bias.array.shape)} is not one number per feature")
        spread = np.broadcast_to(bias.array.reshape(-1), (len(matrix),))
        weights["bias"] = bias.like(_times(spread, site.attribute("beta", 1.0)))
    return site.layer(lambda: Linear(len(matrix), bias="bias" in weights), site.x, **weights)


def matmul(site: Site) -> Flow:
    """MatMul with a constant: a linear layer; of an image that is seen channels last, a 1x1 convolution; or means of regions."""
    means = region_means(site)
    if means is not None:
        return means
    x, weight = site.x, site.known(1, "weight")
    site.insist(weight.array.ndim == 2, f"its weight {list(weight.array.shape)} is no matrix")
    matrix = np.ascontiguousarray(weight.array.T)
    if x.op != CHANNELS_LAST:
        return site.layer(lambda: Linear(len(matrix), bias=False), x, weight=weight.like(matrix))
    kernels = weight.like(matrix.reshape(*matrix.shape, 1, 1))
    y = site.layer(lambda: Conv(len(matrix), 1, bias=False), x.inputs[0], weight=kernels)
    return site.part(CHANNELS_LAST, (*y.shape[1:], y.shape[0]), y)


def connections(weight: Known) -> Table | None:
    """The connection table of a weight that is scattered among zeros; None if it is not."""
    if weight.op != "ScatterND" or np.any(weight.inputs[0].array):
        return None
    rows: list[list[int]] = [[] for _ in range(len(weight.array))]
    for row, channel in weight.inputs[1].array.reshape(-1, 2).tolist():
        rows[row].append(channel)
    in_order = [(number, channel) for number, row in enumerate(rows) for channel in row]
    return tuple(map(tuple, rows)) if in_order == list(map(tuple, weight.inputs[1].array.tolist())) else None


def _weights(site: Site) -> dict[str, Known]:
    weight = site.known(1, "weight")
    site.insist(weight.array.ndim == 4, f"its weight {list(weight.array.shape)} is not that of a 2-d convolution")
    bias = {"bias": site.known(2, "bias")} if site.has(2) else {}
    return {"weight": weight, **bias}


def _times(array: np.ndarray, factor: float) -> np.ndarray:
    return np.ascontiguousarray(array if factor == 1 else array * np.float32(factor))


OPERATORS: dict[str, Reader] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
}
"""The operators of this family by their names."""
