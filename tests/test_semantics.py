"""Every variant of numbers that differ silently between systems: compiled, forward and backward, on images of odd sizes, against
PyTorch's in float64 or the formula where PyTorch has no such thing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dlc import api
from dlc.compiler.autodiff import gradients
from dlc.compiler.build import Forward
from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.target import Target
from dlc.compiler.ir import DType, Graph, Input, Parameter, TensorType, Value, source
from dlc.compiler.network import Network
from dlc.compiler.ops.elementwise import add, multiply
from dlc.compiler.ops.reduction import reduce_sum
from dlc.compiler.passes import PackWeights, Simplify
from dlc.runtime.arrays import aligned_copy
from dlc.runtime.executor import Executor

BATCH, IMAGE = 3, (6, 13, 11)
T = torch.Tensor
Cases = dict[str, Callable[..., T]]
"""A stage as it is written in a spec, and PyTorch's function of the input and the weights."""


def same_upper(x: T, kernel: int, stride: int) -> T:
    """TensorFlow's padding: ceil(size / stride) windows, the odd pixel below and to the right."""
    width, height = ((max((-(-n // stride) - 1) * stride + kernel - n, 0)) for n in (x.shape[3], x.shape[2]))
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


def ceil_average(x: T, kernel: int, stride: int, pad: int) -> T:
    """Caffe's average pool: as many windows as start in the padded image, each divided by its part of the padded image."""
    return F.avg_pool2d(x, kernel, stride, pad, ceil_mode=True)


def neighbours(x: T, size: int) -> T:
    """The sum of squares of the channels around each."""
    padded = F.pad(x * x, (0, 0, 0, 0, size // 2, (size - 1) // 2))
    return sum(padded[:, i : i + x.shape[1]] for i in range(size))  # type: ignore[return-value]  # a tensor, not 0


CONVOLUTIONS: Cases = {
    "conv(8, (1, 3), pad=same)": lambda x, w, b: F.conv2d(x, w, b, padding=(0, 1)),
    "conv(8, (3, 1), stride=2, pad=same)": lambda x, w, b: F.conv2d(x, w, b, 2, (1, 0)),
    "conv(8, (1, 5), pad=(0, 2), bias=false)": lambda x, w: F.conv2d(x, w, padding=(0, 2)),
    "conv(8, (5, 1), stride=(1, 2), pad=(2, 0))": lambda x, w, b: F.conv2d(x, w, b, (1, 2), (2, 0)),
    "conv(10, 7, stride=2, pad=3)": lambda x, w, b: F.conv2d(x, w, b, 2, 3),
    "conv(9, 5)": F.conv2d,
    "conv(8, 3, groups=2, pad=same)": lambda x, w, b: F.conv2d(x, w, b, 1, 1, 1, 2),
    "conv(12, 3, groups=6, stride=2, pad=1)": lambda x, w, b: F.conv2d(x, w, b, 2, 1, 1, 6),
    "conv(6, (5, 3), groups=6, pad=same, dilation=2)": lambda x, w, b: F.conv2d(x, w, b, 1, (4, 2), 2, 6),
    "conv(7, 3, dilation=(2, 3), pad=same)": lambda x, w, b: F.conv2d(x, w, b, 1, (2, 3), (2, 3)),
    "conv(8, 3, stride=2, pad=same)": lambda x, w, b: F.conv2d(x, w, b, 2, 1),
    "conv(8, 3, stride=2, pad=same_upper)": lambda x, w, b: F.conv2d(same_upper(x, 3, 2), w, b, 2),
    "conv(8, 4, stride=3, pad=same_upper)": lambda x, w, b: F.conv2d(same_upper(x, 4, 3), w, b, 3),
    "conv_transpose(8, 3, stride=2, pad=1, output_pad=1)": lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1),
    "conv_transpose(4, (1, 5), stride=(1, 3), groups=2)": lambda x, w, b: F.conv_transpose2d(x, w, b, (1, 3), groups=2),
    "conv_transpose(5, 3, dilation=2, pad=2, bias=false)": lambda x, w: F.conv_transpose2d(
        x, w, None, 1, 2, dilation=2
    ),
}
POOLS: Cases = {
    "max_pool(2)": lambda x: F.max_pool2d(x, 2),
    "max_pool(2, round=ceil)": lambda x: F.max_pool2d(x, 2, ceil_mode=True),
    "max_pool(3, stride=2, pad=1)": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max_pool((2, 3), stride=(3, 2), pad=(1, 1), round=ceil)": lambda x: F.max_pool2d(x, (2, 3), (3, 2), 1, 1, True),
    "min_pool(3, stride=2)": lambda x: -F.max_pool2d(-x, 3, 2),
    "min_pool(2, round=ceil)": lambda x: -F.max_pool2d(-x, 2, ceil_mode=True),
    "avg_pool(2)": lambda x: F.avg_pool2d(x, 2),
    "avg_pool(2, round=ceil)": lambda x: F.avg_pool2d(x, 2, ceil_mode=True),
    "avg_pool(3, stride=2, pad=1)": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "avg_pool(3, stride=2, pad=1, count_padding=false)": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg_pool(4, stride=3, pad=1, round=ceil)": lambda x: ceil_average(x, 4, 3, 1),
    "avg_pool(4, stride=3, pad=1, round=ceil, count_padding=false)": lambda x: F.avg_pool2d(x, 4, 3, 1, True, False),
    "global_avg_pool": lambda x: x.mean((2, 3)),
    "global_max_pool": lambda x: x.amax((2, 3)),
    "adaptive_avg_pool(7)": lambda x: F.adaptive_avg_pool2d(x, 7),
    "adaptive_avg_pool((1, 11))": lambda x: F.adaptive_avg_pool2d(x, (1, 11)),
    "adaptive_avg_pool((17, 4))": lambda x: F.adaptive_avg_pool2d(x, (17, 4)),
    "subsample(2)": lambda x, w, b: 4 * F.avg_pool2d(x, 2) * w[:, None, None] + b[:, None, None],
}
NORMS: Cases = {
    "batch_norm": lambda x, w, b, m, v: F.batch_norm(x, None, None, w, b, True),
    "batch_norm(eps=1e-3, affine=false)": lambda x, m, v: F.batch_norm(x, None, None, training=True, eps=1e-3),
    "layer_norm": lambda x, w, b: F.layer_norm(x, IMAGE, w, b),
    "layer_norm(over=channels)": lambda x, w, b: F.layer_norm(x.permute(0, 2, 3, 1), (6,), w, b).permute(0, 3, 1, 2),
    "group_norm(3)": lambda x, w, b: F.group_norm(x, 3, w, b),
    "instance_norm": F.instance_norm,
    "instance_norm(affine=true)": lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
    "local_response_norm(5, alpha=0.3)": lambda x: F.local_response_norm(x, 5, 0.3),
    "local_response_norm(4, alpha=0.3, beta=0.6)": lambda x: F.local_response_norm(x, 4, 0.3, 0.6),
    "local_response_norm(5, alpha=0.1, k=2, divide=false)": lambda x: x / (2 + 0.1 * neighbours(x, 5)) ** 0.75,
    "local_response_norm(3, alpha=0.1, divide=false)": lambda x: x / (1 + 0.1 * neighbours(x, 3)) ** 0.75,
}
ACTIVATIONS: Cases = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "scaled_tanh": lambda x: 1.7159 * torch.tanh(x * 2 / 3),
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "leaky_relu(0.3)": lambda x: F.leaky_relu(x, 0.3),
    "prelu": F.prelu,
    "prelu(shared=true)": F.prelu,
    "elu(0.7)": lambda x: F.elu(x, 0.7),
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu(approximate=tanh)": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
    "softplus": F.softplus,
    "clip(0, 6)": F.relu6,
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
}
SHAPES: Cases = {
    "pad(channels=3)": lambda x: F.pad(x, (0, 0, 0, 0, 0, 3)),
    "pad((1, 2), channels=(1, 2), value=0.5)": lambda x: F.pad(x, (2, 2, 1, 1, 1, 2), value=0.5),
    "crop((4, 7))": lambda x: x[:, :, 4:8, 2:9],
    "crop(5, at=top_left)": lambda x: x[:, :, :5, :5],
    "upsample((2, 3))": lambda x: F.interpolate(x, scale_factor=(2, 3)),
    "upsample(2, mode=bilinear)": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
    "slice(1, -1, axis=height, step=3)": lambda x: x[:, :, 1:-1:3],
    "channel_shuffle(3)": lambda x: F.channel_shuffle(x, 3),
    "flatten": lambda x: x.flatten(1),
}
FAMILIES = {
    "convolutions": CONVOLUTIONS,
    "pools": POOLS,
    "norms": NORMS,
    "activations": ACTIVATIONS,
    "shapes": SHAPES,
}


def side_by_side(stages: list[str], folder: Path) -> Network:
    """A network with an input, a stage and an output for each: `x0`, `s0`, `y0` …."""
    lines = [f"    input x{i}: {list(IMAGE)}" for i in range(len(stages))]
    lines += [f"    x{i} -> s{i}: chain([{stage}]) -> output y{i}" for i, stage in enumerate(stages)]
    path = folder / "stages.dlspec"
    path.write_text("model M {\n" + "\n".join(lines) + "\n}\n", encoding="utf-8")
    return api.one_network(path)


def compiled_step(network: Network, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs, and the gradients of Σ output * upstream: "d.x0" of inputs, "d.s0.0.weight" of weights, in canonical form."""
    step, seed = (source(Input(f"train.{name}", TensorType((), DType.UINT32))) for name in ("step", "seed"))
    forward = Forward(network, BATCH, seed, step)
    forward.run(network.calls)
    results = {o.name: forward.result(o.tensor) for o in network.outputs}
    upstreams = {name: source(Input(f"up.{name}", y.type)) for name, y in results.items()}
    parts = [reduce_sum(multiply(y, upstreams[name]), tuple(range(y.type.rank))) for name, y in results.items()]
    loss = parts[0]
    for part in parts[1:]:
        loss = add(loss, part)
    inputs = (*forward.inputs.values(), *upstreams.values(), step, seed)
    target = Target.parse("cpu")
    graph = PackWeights(target.lanes)(Simplify()(Graph("forward", inputs, {"loss": loss, **results})))
    learned: list[Value] = [v for v in graph.inputs if v.op.key.startswith("x")]  # type: ignore[union-attr]  # a source
    learned += [v for v in graph.parameters if isinstance(v.op, Parameter) and v.op.trainable]
    found = gradients(graph.outputs["loss"], learned)
    outputs = {f"d.{v.op.key}": d for v, d in zip(learned, found, strict=True)}  # type: ignore[union-attr]  # a source
    whole = Graph("step", graph.inputs, {**{n: graph.outputs[n] for n in results}, **outputs})
    made = compile_graph(Simplify()(whole), target, batch=BATCH)
    layouts = {f"d.{s.name}": s.layout for s in made.program.weights if s.layout is not None}
    weights = {
        s.name: aligned_copy(
            made.constants[s.name]
            if s.name in made.constants
            else feeds[s.name]
            if s.layout is None
            else s.layout.pack(feeds[s.name])
        )
        for s in made.program.weights
    }
    known = {s.name for s in made.program.inputs}
    run = Executor(made.program, made.function, weights, 2).run({k: v for k, v in feeds.items() if k in known})
    return {name: layouts[name].unpack(a) if name in layouts else a for name, a in run.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_layers_and_their_gradients_are_pytorchs(family: str, tmp_path: Path) -> None:
    cases = FAMILIES[family]
    network = side_by_side(list(cases), tmp_path)
    random = np.random.default_rng(0)
    specs = network.parameter_specs()
    feeds = {i.name: random.standard_normal((BATCH, *i.shape), np.float32) for i in network.inputs}
    feeds |= {
        name: random.uniform(0.5, 1.5, spec.shape).astype(np.float32)
        if spec.role != "weight"
        else random.standard_normal(spec.shape, np.float32) / np.float32(np.sqrt(spec.fan_in))
        for name, spec in specs.items()
    }
    for o in network.outputs:
        feeds[f"up.{o.name}"] = random.standard_normal((BATCH, *o.tensor.shape), np.float32)
    found = compiled_step(network, {**feeds, "train.step": np.uint32(0), "train.seed": np.uint32(0)})

    for i, (stage, reference) in enumerate(cases.items()):
        weights = [name for name in specs if name.startswith(f"s{i}.")]
        names = [f"x{i}", *weights]
        tensors = [torch.tensor(feeds[n], dtype=torch.float64, requires_grad=True) for n in names]
        expected = reference(*tensors)
        (expected * torch.tensor(feeds[f"up.y{i}"], dtype=torch.float64)).sum().backward()
        _assert_near(found[f"y{i}"], expected.detach().numpy(), stage)
        for name, tensor in zip(names, tensors, strict=True):
            if name not in specs or specs[name].trainable:
                assert tensor.grad is not None
                _assert_near(found[f"d.{name}"], tensor.grad.numpy(), f"gradient of {name} of {stage}")


def _assert_near(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=3e-5 * scale, err_msg=what)


@pytest.mark.parametrize(("stage", "kept"), [("dropout(0.3)", 1 / 0.7), ("dropout(0.3, at=inference)", 1.0)])
def test_dropout_drops_its_part_and_the_gradient_goes_where_the_values_went(
    stage: str, kept: float, tmp_path: Path
) -> None:
    network = side_by_side([stage], tmp_path)
    x = np.random.default_rng(0).uniform(1, 2, (BATCH, *IMAGE)).astype(np.float32)
    feeds = {"x0": x, "up.y0": np.ones_like(x), "train.step": np.uint32(3), "train.seed": np.uint32(1)}
    found = compiled_step(network, feeds)
    inference = api.compile_network(network)(x)
    mask = found["y0"] != 0

    assert abs(mask.mean() - 0.7) < 0.03  # of 2,574 draws: three deviations
    np.testing.assert_allclose(found["y0"], x * mask * kept, rtol=1e-6)
    np.testing.assert_allclose(found["d.x0"], mask * kept, rtol=1e-6)
    np.testing.assert_allclose(inference, x * (1.0 if kept > 1 else 0.7), rtol=1e-6)


def test_the_running_statistics_are_torchs(tmp_path: Path) -> None:
    """The new batch counts a tenth, its variance is unbiased."""
    network = side_by_side(["batch_norm", "batch_norm(momentum=0.5)"], tmp_path)
    x = np.random.default_rng(0).standard_normal((BATCH, *IMAGE)).astype(np.float32)
    step, seed = (source(Input(f"train.{name}", TensorType((), DType.UINT32))) for name in ("step", "seed"))
    forward = Forward(network, BATCH, seed, step)
    forward.run(network.calls)
    updates = {key.op.key: value for key, value in forward.updates.items()}  # type: ignore[union-attr]  # a source
    made = compile_graph(Graph("statistics", tuple(forward.inputs.values()), updates), Target.parse("cpu"), batch=BATCH)
    start = {
        s.name: np.zeros(6, np.float32) if "mean" in s.name else np.ones(6, np.float32) for s in made.program.weights
    }
    arrays = {name: aligned_copy(array) for name, array in {**start, **made.constants}.items()}
    found = Executor(made.program, made.function, arrays, 2).run({"x0": x, "x1": x})

    for i, momentum in enumerate((0.1, 0.5)):
        norm = torch.nn.BatchNorm2d(6, momentum=momentum).double()
        norm(torch.tensor(x, dtype=torch.float64))
        _assert_near(found[f"s{i}.0.running_mean"], norm.running_mean.numpy(), "mean")  # type: ignore[union-attr]  # it has one
        _assert_near(found[f"s{i}.0.running_var"], norm.running_var.numpy(), "variance")  # type: ignore[union-attr]  # it has one
