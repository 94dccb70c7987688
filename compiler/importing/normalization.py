"""Normalisation from ONNX."""

from __future__ import annotations

import numpy as np

from dlc.compiler.importing.values import CHANNELS_LAST, Flow, Known, Reader, Refusal, Site, short
from dlc.compiler.layers.normalization import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm


def batch_norm(site: Site) -> Flow:
    """BatchNormalization in the form of inference."""
    site.insist(not site.attribute("training_mode", 0), "it is in training mode")
    site.insist(site.attribute("spatial", 1) == 1, "it normalises each pixel on its own (spatial=0)")
    keys = ("weight", "bias", "running_mean", "running_var")
    weights = {key: site.known(index, key) for index, key in enumerate(keys, 1)}
    return site.layer(lambda: _batch_norm(site, weights), site.x, **_taken(weights))


def _batch_norm(site: Site, weights: dict[str, Known]) -> BatchNorm:
    return BatchNorm(short(site.attribute("epsilon", 1e-5)), affine="weight" in _taken(weights))


def _taken(weights: dict[str, Known]) -> dict[str, Known]:
    """The weights without a weight and a bias that are there in form only: ones and zeros without a name."""
    return {k: v for k, v in weights.items() if not _is_empty(weights) or k not in ("weight", "bias")}


def _is_empty(weights: dict[str, Known]) -> bool:
    """Whether weight and bias are ones and zeros that no initializer holds: what an exporter writes for affine=false."""
    weight, bias = weights.get("weight"), weights.get("bias")
    if weight is None or weight.op != "Constant" or bias is None or bias.op != "Constant":
        return False
    return bool(np.all(weight.array == 1) and np.all(bias.array == 0))


def layer_norm(site: Site) -> Flow:
    """LayerNormalization over all of a sample, or over the channels of an image that is seen channels last."""
    x, eps = site.x, short(site.attribute("epsilon", 1e-5))
    axis = site.attribute("axis", -1) % (len(x.shape) + 1)
    weights = {"weight": site.known(1, "scale")} | ({"bias": site.known(2, "bias")} if site.has(2) else {})
    unnamed = weights["weight"].op == "Constant" and np.all(weights["weight"].array == 1)
    affine = "bias" in weights or not unnamed
    if affine and "bias" not in weights:
        weights["bias"] = Known(np.zeros_like(weights["weight"].array))
    taken = weights if affine else {}
    if x.op == CHANNELS_LAST and axis == len(x.shape):
        y = site.layer(lambda: LayerNorm(eps, affine, "channels"), x.inputs[0], **taken)
        return site.part(CHANNELS_LAST, x.shape, y)
    site.insist(axis == 1, f"its axis is {axis}: only the whole sample, or the channels at each pixel, are normalised")
    return site.layer(lambda: LayerNorm(eps, affine), x, **taken)


def group_norm(site: Site) -> Flow:
    """GroupNormalization with a scale and a bias per channel (opset 21) or per group (before)."""
    groups, channels = site.attribute("num_groups", 1), site.x.shape[0]
    weights = {"weight": site.known(1, "scale"), "bias": site.known(2, "bias")}
    if site.opset < 21 and groups != channels:
        weights = {k: v.like(np.repeat(v.array, channels // groups)) for k, v in weights.items()}
    taken = _taken(weights)
    return site.layer(
        lambda: GroupNorm(groups, short(site.attribute("epsilon", 1e-5)), "weight" in taken), site.x, **taken
    )


def instance_norm(site: Site) -> Flow:
    """InstanceNormalization. PyTorch writes its group norm as one: of the groups as channels, then scaled and shifted."""
    weights = {"weight": site.known(1, "scale"), "bias": site.known(2, "bias")}
    eps, neutral = short(site.attribute("epsilon", 1e-5)), _is_neutral(weights)
    if site.x.op == "Groups":
        site.insist(neutral, "it scales groups of channels")
        return site.part("Normalized groups", site.x.shape, site.x.inputs[0], eps=eps)
    taken = {} if neutral and weights["weight"].op == "Constant" else weights
    return site.layer(lambda: InstanceNorm(eps, bool(taken)), site.x, **taken)


def _is_neutral(weights: dict[str, Known]) -> bool:
    return bool(np.all(weights["weight"].array == 1) and np.all(weights["bias"].array == 0))


def local_response_norm(site: Site) -> Flow:
    """LRN of an odd size."""
    size = site.attribute("size", None)
    if size is None or size % 2 == 0:
        raise Refusal(f"its size is {size}: of an even one, one channel more lies behind, here before")
    values = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
    alpha, beta, k = (short(site.attribute(name, default)) for name, default in values.items())
    return site.layer(LocalResponseNorm(size, alpha, beta, k), site.x)


OPERATORS: dict[str, Reader] = {
    "BatchNormalization": batch_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LRN": local_response_norm,
    "LayerNormalization": layer_norm,
}
"""The operators of this family by their names."""
