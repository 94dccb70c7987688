"""Gradients through convolutions by tiles, compiled, against PyTorch in float64."""

import numpy as np
import pytest

from dlc.compiler.autodiff import gradients
from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.target import Target
from dlc.compiler.ir import Graph, Input, N, Parameter, TensorType, source
from dlc.compiler.ops.convolution import conv2d
from dlc.compiler.ops.elementwise import multiply
from dlc.compiler.ops.functions import relu
from dlc.compiler.ops.reduction import reduce_sum
from dlc.compiler.passes import PackWeights, Simplify, Winograd, WinogradGradient
from dlc.runtime.arrays import aligned_copy
from dlc.runtime.executor import Executor

torch = pytest.importorskip("torch")

BATCH = 3


def step(target):
    """Loss and gradients of conv → relu → conv → sum of squares, weights packed, by tiles where the model says so."""
    x = source(Input("x", TensorType((N, 33, 29, 32))))
    a, b = (source(Parameter(k, TensorType(s))) for k, s in (("a", (48, 32, 3, 3)), ("b", (32, 48, 3, 3))))
    y = conv2d(relu(conv2d(x, a, padding=1)), b, padding=(1, 0, 2, 1))
    forward = PackWeights(target.lanes)(Graph("g", (x,), {"loss": reduce_sum(multiply(y, y), (0, 1, 2, 3))}))
    (image,), weights = forward.inputs, forward.parameters
    found = gradients(forward.outputs["loss"], (image, *weights))
    outputs = dict(zip(("x", *(w.op.key for w in weights)), found, strict=True))
    graph = Graph("g", (image,), {**forward.outputs, **{f"by {k}": v for k, v in outputs.items()}})
    graph = Winograd(target.machine, (BATCH,))(Simplify()(graph))
    return WinogradGradient(target.machine, BATCH)(graph)


@pytest.mark.parametrize("name", ["cpu", "x86-64-v3"])
def test_gradients_through_tiles_are_those_of_pytorch(name):
    target = Target.parse(name)
    graph = step(target)
    rng = np.random.default_rng(0)
    layouts = {p.op.key: p.op.layout for p in graph.parameters}
    weights = {k: rng.standard_normal(to.canonical_shape).astype(np.float32) * 0.1 for k, to in layouts.items()}
    image = rng.standard_normal((BATCH, 33, 29, 32)).astype(np.float32)

    compiled = compile_graph(graph, target, batch=BATCH)
    packed = {k: aligned_copy(layouts[k].pack(w)) for k, w in weights.items()}
    got = Executor(compiled.program, compiled.function, {**compiled.constants, **packed}).run({"x": image})

    x = torch.from_numpy(image).double().permute(0, 3, 1, 2).requires_grad_()
    a, b = (torch.from_numpy(weights[k]).double().requires_grad_() for k in ("a", "b"))
    hidden = torch.nn.functional.conv2d(x, a, padding=1).relu()
    loss = torch.nn.functional.conv2d(torch.nn.functional.pad(hidden, (0, 1, 1, 2)), b).square().sum()
    loss.backward()
    expected = {"x": x.grad.permute(0, 2, 3, 1).numpy(), "a": a.grad.numpy(), "b": b.grad.numpy()}

    assert sum(v.op.name == "winograd_conv2d" for v in graph.values) == 4
    assert sum(v.op.name == "winograd_weight_gradient" for v in graph.values) == 2
    assert abs(float(got["loss"]) - loss.item()) <= 1e-5 * loss.item()
    for key, gradient in expected.items():
        ours = np.asarray(got[f"by {key}"])
        ours = layouts[key].unpack(ours) if key in layouts else ours
        assert np.abs(ours - gradient).max() <= 3e-5 * np.abs(gradient).max(), key
