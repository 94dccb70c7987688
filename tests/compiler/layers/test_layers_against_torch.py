"""Every layer's inference form and gradients are torch's, in float64, by the interpreter.

Constants of a graph are float32, so that a factor like 1/3 sets the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dlc.compiler.autodiff import gradients
from dlc.compiler.build import Forward
from dlc.compiler.catalog import catalog
from dlc.compiler.interpret import evaluate
from dlc.compiler.ir import Graph, Input, Source, TensorType, source
from dlc.compiler.layers.activation import (
    Clip,
    Elu,
    Gelu,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyRelu,
    Offset,
    Prelu,
    Relu,
    Scale,
    ScaledTanh,
    Selu,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
)
from dlc.compiler.layers.affine import Affine
from dlc.compiler.layers.arithmetic import Add, Multiply
from dlc.compiler.layers.base import Layer
from dlc.compiler.layers.connect import ConvConnect
from dlc.compiler.layers.convolution import Conv, ConvTranspose
from dlc.compiler.layers.dropout import Dropout
from dlc.compiler.layers.linear import Linear
from dlc.compiler.layers.normalization import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm
from dlc.compiler.layers.pooling import (
    AdaptiveAvgPool,
    AvgPool,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
    MinPool,
    Subsample,
)
from dlc.compiler.layers.rbf import Rbf
from dlc.compiler.layers.shape import Concat, Crop, Flatten, Pad, Reshape, Slice, Upsample
from dlc.compiler.layers.shuffle import ChannelShuffle
from dlc.compiler.layers.softmax import LogSoftmax, Softmax
from dlc.compiler.ops.elementwise import multiply
from dlc.compiler.ops.reduction import reduce_sum

BATCH = 2
T = torch.Tensor
Torch = Callable[..., T]
Shapes = Sequence[tuple[int, ...]]
TABLE = ((0, 1), (1, 2), (0, 2), (0, 1, 2))


def connected(x: T, w: T, b: T) -> T:
    maps, start = [], 0
    for row in TABLE:
        maps.append(F.conv2d(x[:, list(row)], w[start : start + len(row)][None]))
        start += len(row)
    return torch.cat(maps, 1) + b[None, :, None, None]


CASES: list[tuple[Layer, Shapes, Torch]] = [
    (Conv(4, 3), [(3, 7, 6)], lambda x, w, b: F.conv2d(x, w, b)),
    (Conv(4, (1, 3), 2, (0, 1), bias=False), [(3, 7, 6)], lambda x, w: F.conv2d(x, w, None, 2, (0, 1))),
    (Conv(4, 3, 2, "same", groups=2), [(6, 7, 8)], lambda x, w, b: F.conv2d(x, w, b, 2, 1, 1, 2)),
    (Conv(6, 3, pad="same", dilation=2, groups=3), [(3, 9, 8)], lambda x, w, b: F.conv2d(x, w, b, 1, 2, 2, 3)),
    (Conv(2, 3, pad=(1, 0, 2, 1)), [(1, 5, 5)], lambda x, w, b: F.conv2d(F.pad(x, (0, 1, 1, 2)), w, b)),
    (Conv(2, 3, 2, "same_upper"), [(1, 6, 5)], lambda x, w, b: F.conv2d(F.pad(x, (1, 1, 0, 1)), w, b, 2)),
    (Conv(2, 2, 1, "valid"), [(1, 6, 5)], lambda x, w, b: F.conv2d(x, w, b)),
    (ConvTranspose(4, 3, 2, 1, 1), [(3, 5, 4)], lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1)),
    (ConvTranspose(4, 2, 2, groups=2), [(6, 5, 4)], lambda x, w, b: F.conv_transpose2d(x, w, b, 2, groups=2)),
    (ConvConnect(TABLE, 3), [(3, 6, 5)], connected),
    (Linear(5), [(7,)], F.linear),
    (Linear(5, bias=False), [(7,)], F.linear),
    (MaxPool(2), [(3, 7, 6)], lambda x: F.max_pool2d(x, 2)),
    (MaxPool(3, 2, 1, "ceil"), [(3, 8, 7)], lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True)),
    (MaxPool(2, 2, round="ceil"), [(3, 7, 5)], lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True)),
    (MinPool(2), [(3, 6, 6)], lambda x: -F.max_pool2d(-x, 2)),
    (AvgPool(3, 2, 1), [(3, 7, 8)], lambda x: F.avg_pool2d(x, 3, 2, 1)),
    (AvgPool(3, 2, 1, "ceil"), [(3, 8, 7)], lambda x: F.avg_pool2d(x, 3, 2, 1, True)),
    (AvgPool(3, 2, 1, count_padding=False), [(3, 7, 8)], lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    (GlobalAvgPool(), [(3, 4, 5)], lambda x: x.mean((2, 3))),
    (GlobalMaxPool(), [(3, 4, 5)], lambda x: x.amax((2, 3))),
    (AdaptiveAvgPool(2), [(3, 6, 4)], lambda x: F.adaptive_avg_pool2d(x, 2)),
    (AdaptiveAvgPool((3, 2)), [(3, 7, 5)], lambda x: F.adaptive_avg_pool2d(x, (3, 2))),
    (
        Subsample(),
        [(3, 4, 6)],
        lambda x, w, b: 4 * F.avg_pool2d(x, 2) * w[:, None, None] + b[:, None, None],
    ),
    (BatchNorm(eps=1e-3), [(3, 4, 5)], lambda x, w, b, m, v: F.batch_norm(x, m, v, w, b, eps=1e-3)),
    (BatchNorm(affine=False), [(6,)], lambda x, m, v: F.batch_norm(x, m, v)),
    (LayerNorm(), [(3, 4, 5)], lambda x, w, b: F.layer_norm(x, (3, 4, 5), w, b)),
    (LayerNorm(affine=False), [(9,)], lambda x: F.layer_norm(x, (9,))),
    (
        LayerNorm(over="channels"),
        [(6, 2, 3)],
        lambda x, w, b: F.layer_norm(x.permute(0, 2, 3, 1), (6,), w, b).permute(0, 3, 1, 2),
    ),
    (GroupNorm(3), [(6, 2, 3)], lambda x, w, b: F.group_norm(x, 3, w, b)),
    (GroupNorm(2, affine=False), [(8,)], lambda x: F.group_norm(x, 2)),
    (InstanceNorm(), [(4, 3, 3)], F.instance_norm),
    (InstanceNorm(affine=True), [(4, 3, 3)], lambda x, w, b: F.instance_norm(x, weight=w, bias=b)),
    (LocalResponseNorm(alpha=0.3), [(7, 3, 2)], lambda x: F.local_response_norm(x, 5, 0.3)),
    (LocalResponseNorm(4, 0.3, 0.6, 2.0), [(7, 3, 2)], lambda x: F.local_response_norm(x, 4, 0.3, 0.6, 2.0)),
    (LocalResponseNorm(5, 0.1, divide=False), [(7, 3, 2)], lambda x: F.local_response_norm(x, 5, 0.5)),
    (Dropout(0.4), [(5,)], lambda x: x),
    (Dropout(0.4, at="inference"), [(5,)], lambda x: 0.6 * x),
    (Sigmoid(), [(3, 2, 2)], torch.sigmoid),
    (Tanh(), [(5,)], torch.tanh),
    (ScaledTanh(), [(5,)], lambda x: 1.7159 * torch.tanh(x * 2 / 3)),
    (Relu(), [(5,)], F.relu),
    (LeakyRelu(0.2), [(5,)], lambda x: F.leaky_relu(x, 0.2)),
    (Prelu(), [(3, 2, 2)], F.prelu),
    (Prelu(shared=True), [(3, 2, 2)], F.prelu),
    (Elu(0.7), [(5,)], lambda x: F.elu(x, 0.7)),
    (Selu(), [(5,)], F.selu),
    (Gelu(), [(5,)], F.gelu),
    (Gelu("tanh"), [(5,)], lambda x: F.gelu(x, approximate="tanh")),
    (Silu(), [(5,)], F.silu),
    (HardSigmoid(), [(5,)], F.hardsigmoid),
    (HardSwish(), [(5,)], F.hardswish),
    (Softplus(), [(5,)], F.softplus),
    (Clip(-0.5, 1.0), [(5,)], lambda x: x.clip(-0.5, 1.0)),
    (Scale(-2.5), [(5,)], lambda x: -2.5 * x),
    (Offset(1.5), [(5,)], lambda x: x + 1.5),
    (Identity(), [(3, 2, 2)], lambda x: x),
    (Softmax(), [(5,)], lambda x: F.softmax(x, 1)),
    (Softmax(), [(5, 2, 3)], lambda x: F.softmax(x, 1)),
    (LogSoftmax(), [(5,)], lambda x: F.log_softmax(x, 1)),
    (Rbf(4, "random", trainable=True), [(6,)], lambda x, w: -((x[:, None] - w) ** 2).sum(2)),
    (Flatten(), [(3, 2, 4)], lambda x: x.flatten(1)),
    (Reshape((4, 2, -1)), [(3, 2, 4)], lambda x: x.reshape(-1, 4, 2, 3)),
    (Reshape((4, 2, 3)), [(24,)], lambda x: x.reshape(-1, 4, 2, 3)),
    (Reshape((-1,)), [(3, 2, 4)], lambda x: x.flatten(1)),
    (Pad((1, 2), (1, 3), 0.5), [(3, 2, 4)], lambda x: F.pad(x, (2, 2, 1, 1, 1, 3), value=0.5)),
    (Pad(channels=2), [(3, 2, 4)], lambda x: F.pad(x, (0, 0, 0, 0, 0, 2))),
    (Crop((2, 3)), [(3, 5, 4)], lambda x: x[:, :, 1:3, 0:3]),
    (Crop(2, "top_left"), [(3, 5, 4)], lambda x: x[:, :, :2, :2]),
    (Slice(1, -1), [(5, 2, 2)], lambda x: x[:, 1:-1]),
    (Slice(0, 5, "height", 2), [(3, 5, 2)], lambda x: x[:, :, ::2]),
    (Concat(), [(3, 2, 2), (1, 2, 2), (2, 2, 2)], lambda *x: torch.cat(x, 1)),
    (Concat("width"), [(3, 2, 2), (3, 2, 4)], lambda *x: torch.cat(x, 3)),
    (Concat(), [(3,), (4,)], lambda *x: torch.cat(x, 1)),
    (Upsample((2, 3)), [(3, 2, 4)], lambda x: F.interpolate(x, scale_factor=(2, 3))),
    (
        Upsample((2, 3), "bilinear"),
        [(3, 3, 4)],
        lambda x: F.interpolate(x, scale_factor=(2, 3), mode="bilinear", align_corners=False),
    ),
    (Affine(), [(3, 2, 2)], lambda x, w, b: x * w[:, None, None] + b[:, None, None]),
    (Affine(bias=False), [(5,)], lambda x, w: x * w),
    (ChannelShuffle(3), [(6, 2, 3)], lambda x: F.channel_shuffle(x, 3)),
    (Add(), [(3, 2, 2)] * 3, lambda a, b, c: a + b + c),
    (Multiply(), [(3, 2, 2)] * 2, lambda a, b: a * b),
    (Multiply(), [(3, 2, 2), (3,)], lambda a, b: a * b[:, :, None, None]),
    (Multiply(), [(1, 2, 2), (3, 2, 2)], lambda a, b: a * b),
]


@pytest.mark.parametrize(("layer", "shapes", "reference"), CASES, ids=[str(c[0]) for c in CASES])
def test_a_layer_and_its_gradients_are_torchs(single, layer: Layer, shapes: Shapes, reference: Torch) -> None:
    network = single(layer, *shapes)
    generator = np.random.default_rng(0)
    specs = network.parameter_specs()
    feeds = {f"x{i}": generator.normal(size=(BATCH, *shape)) for i, shape in enumerate(shapes)}
    feeds |= {name: generator.uniform(0.5, 1.5, spec.shape) for name, spec in specs.items()}
    learned = [name for name in feeds if name not in specs or specs[name].trainable]
    upstream = generator.normal(size=(BATCH, *network.outputs[0].tensor.shape))
    tensors = {name: torch.tensor(array, requires_grad=name in learned) for name, array in feeds.items()}

    forward = Forward(network, BATCH)
    forward.run(network.calls)
    y = forward.result(network.outputs[0].tensor)
    loss = reduce_sum(multiply(y, source(Input("upstream", TensorType(upstream.shape)))), tuple(range(upstream.ndim)))
    sources = {v.op.key: v for v in Graph("loss", (), {"loss": loss}).values if isinstance(v.op, Source)}
    results = evaluate([y, *gradients(loss, [sources[n] for n in learned])], {**feeds, "upstream": upstream})
    expected = reference(*(tensors[name] for name in feeds))
    (expected * torch.tensor(upstream)).sum().backward()

    np.testing.assert_allclose(results[0], expected.detach().numpy(), rtol=1e-6, atol=1e-6)
    for name, result in zip(learned, results[1:], strict=True):
        np.testing.assert_allclose(result, tensors[name].grad.numpy(), rtol=1e-6, atol=1e-6, err_msg=name)


def test_every_layer_is_compared_with_torch() -> None:
    compared = {layer.keyword for layer, _, _ in CASES}

    assert compared == set(catalog("dlc.compiler.layers", Layer))
