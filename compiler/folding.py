"""Batch norm folded into the layer before it, in the network's own terms: for inference it is a scale and a shift.

    y = (w x + b - mean) s + beta,  s = weight / sqrt(variance + eps)   →   y = (w s) x + (b - mean) s + beta

The folded weights keep their canonical names and shapes, so that they can be written to files, packed, and unfolded: the
network of the spec with w s for w and a batch norm that changes nothing computes the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from dlc.compiler.layers.activation import Identity
from dlc.compiler.layers.convolution import Conv, ConvTranspose
from dlc.compiler.layers.dropout import Dropout
from dlc.compiler.layers.linear import Linear
from dlc.compiler.layers.normalization import BatchNorm
from dlc.compiler.network import LayerCall, Network, Replacement, Tensor, inference_form
from dlc.runtime.threads import available

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Pair:
    """A batch norm and the call whose weights take it in; `bias` names the weight that takes the shift."""

    product: LayerCall
    norm: LayerCall
    bias: str


@dataclass(frozen=True)
class Folding:
    """What folding makes of a network: `network`, its inference form without the batch norms of `pairs`."""

    network: Network
    pairs: tuple[Pair, ...]

    def fold(self, weights: Arrays) -> dict[str, np.ndarray]:
        """The folded network's weights, float32, computed in float64, from the canonical ones of the whole network."""

        def one(pair: Pair) -> dict[str, np.ndarray]:
            norm = {key: weights[name].astype(np.float64) for key, name in pair.norm.weights.items()}
            scale = norm.get("weight", 1.0) / np.sqrt(norm["running_var"] + _layer(pair.norm).eps)
            weight, bias = pair.product.weights["weight"], pair.product.weights.get("bias")
            before = weights[bias].astype(np.float64) if bias is not None else 0.0
            shift = norm.get("bias", 0.0) + (before - norm["running_mean"]) * scale
            return {weight: _scaled(pair.product, weights[weight], scale), pair.bias: np.asarray(shift, np.float32)}

        folded = dict(weights)
        with ThreadPoolExecutor(available()) as pool:
            for changed in pool.map(one, self.pairs):
                folded |= changed
        return {name: folded[name] for name in self.network.parameter_specs()}

    def unfold(self, folded: Arrays) -> dict[str, np.ndarray]:
        """Canonical weights of the whole network that compute the same: batch norms with scale 1, and the shift or none.

        Folding them again gives the same bits.
        """
        weights = dict(folded)
        for pair in self.pairs:
            for key, spec in pair.norm.parameters.items():
                value = {"weight": 1.0, "running_var": 1.0 - _layer(pair.norm).eps}.get(key, 0.0)
                if pair.norm.weights[key] != pair.bias:
                    weights[pair.norm.weights[key]] = np.full(spec.shape, value, np.float32)
        return weights


def folding(network: Network) -> Folding:
    """Which batch norms fold: those that alone read what a convolution or a linear layer with weights of its own gives."""
    calls = network.inference_calls()
    readers = Counter(id(t) for c in calls for t in c.inputs)
    readers.update(id(o.tensor) for o in network.outputs if not o.training_only)
    users = Counter(name for c in calls for name in c.weights.values())
    pairs = []
    for call in calls:
        product = _product(call.inputs[0], readers) if isinstance(call.layer, BatchNorm) else None
        if product is None or any(users[name] > 1 for c in (call, product) for name in c.weights.values()):
            continue
        bias = product.weights.get("bias", call.weights.get("bias"))
        if bias is not None:
            pairs.append(Pair(product, call, bias))
    replaced: dict[LayerCall, Replacement | None] = {p.norm: None for p in pairs}
    for pair in pairs:
        layer = pair.product.layer
        assert isinstance(layer, Conv | ConvTranspose | Linear)
        weights = {"weight": pair.product.weights["weight"], "bias": pair.bias}
        replaced[pair.product] = Replacement(replace(layer, bias=True), weights)
    return Folding(inference_form(network, replaced=replaced), tuple(pairs))


def _product(tensor: Tensor, readers: Counter[int]) -> LayerCall | None:
    """The convolution or linear layer that a tensor comes from and that nothing else reads."""
    while isinstance(tensor.producer, LayerCall) and readers[id(tensor)] == 1:
        call = tensor.producer
        if isinstance(call.layer, Conv | ConvTranspose | Linear):
            return call
        if not isinstance(call.layer, Identity) and not (
            isinstance(call.layer, Dropout) and call.layer.at == "training"
        ):
            return None
        tensor = call.inputs[0]
    return None


def _layer(norm: LayerCall) -> BatchNorm:
    assert isinstance(norm.layer, BatchNorm)
    return norm.layer


def _scaled(product: LayerCall, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The weight times one number for each output channel, the product rounded once."""
    if isinstance(product.layer, ConvTranspose):  # [C, outputs / groups, kh, kw]
        groups = product.layer.groups
        parts, factor = weight.reshape(groups, -1, *weight.shape[1:]), scale.reshape(groups, 1, -1, 1, 1)
    else:
        parts, factor = weight, scale.reshape(-1, *(1 for _ in weight.shape[1:]))
    scaled = np.empty(parts.shape, np.float32)
    np.multiply(parts, factor, out=scaled, dtype=np.float64, casting="same_kind")
    return scaled.reshape(weight.shape)
