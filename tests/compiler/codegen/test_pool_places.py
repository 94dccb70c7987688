"""The compiled gradient through max_pool(relu(x)) is PyTorch's, and keeps no image: places of a byte serve instead."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dlc.compiler.autodiff import gradients
from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.target import Target
from dlc.compiler.ir import Graph, Input, TensorType, source
from dlc.compiler.ops import max_pool, multiply, reduce_sum, relu
from dlc.compiler.ops.pooling import MOST_PLACES, MaxPool, MaxPoolGradient, MaxPoolPlaces, PlacedGradient
from dlc.compiler.passes import Simplify
from dlc.runtime.executor import Executor
from dlc.runtime.memory import lifetimes

POOLS = {
    "2x2": ({"kernel": 2}, (6, 10, 20)),
    "3x3 stride 2, padded": ({"kernel": 3, "stride": 2, "padding": 1}, (13, 8, 33)),
    "3x3 stride 1": ({"kernel": 3, "stride": 1, "padding": 1}, (5, 7, 16)),
    "gaps, ceil": ({"kernel": 2, "stride": 3, "ceil": True}, (7, 9, 3)),
    "uneven": ({"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0)}, (9, 5, 17)),
}
BATCH = 3


def gradient_graph(options: dict[str, object], size: tuple[int, int, int]) -> Graph:
    """The gradient by x of Σ weight · max_pool(relu(x · 1.5))."""
    x = source(Input("x", TensorType((BATCH, *size))))
    pooled = max_pool(relu(multiply(x, 1.5)), **options)
    weight = source(Input("weight", pooled.type))
    total = reduce_sum(multiply(pooled, weight), (0, 1, 2, 3))
    return Simplify()(Graph("g", (x, weight), {"gradient": gradients(total, [x])[0], "total": total}))


@pytest.mark.parametrize("name", POOLS)
def test_the_gradient_through_a_masked_pool_is_pytorchs(name: str) -> None:
    options, size = POOLS[name]
    graph = gradient_graph(options, size)
    generator = np.random.default_rng(1)
    x = (generator.integers(-4, 5, (BATCH, *size)) / 4).astype(np.float32)  # with ties, and windows that relu empties
    x[0, :3, :3] = -1
    weight = generator.standard_normal(graph.inputs[1].type.shape).astype(np.float32)
    made = compile_graph(graph, Target.parse("cpu"), batch=BATCH)

    found = Executor(made.program, made.function, {}).run({"x": x, "weight": weight})

    tensor = torch.tensor(x).double().permute(0, 3, 1, 2).requires_grad_()
    named = {"kernel": "kernel_size", "ceil": "ceil_mode"}
    pooled = F.max_pool2d((tensor * 1.5).relu(), **{named.get(k, k): v for k, v in options.items()})
    (pooled * torch.tensor(weight).permute(0, 3, 1, 2)).sum().backward()
    np.testing.assert_allclose(found["gradient"], tensor.grad.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-6)


def test_neither_the_image_nor_its_mask_outlives_the_pool() -> None:
    graph = gradient_graph({"kernel": 2}, (32, 32, 16))
    program = compile_graph(graph, Target.parse("cpu"), batch=BATCH).program
    (pool,) = (i for i, s in enumerate(program.steps) if s.what.startswith("max_pool_places"))

    image = 4 * BATCH * 32 * 32 * 16

    assert all(life.last <= pool for life in lifetimes(program, BATCH) if life.size >= image)


def test_windows_too_large_for_a_byte_are_searched_again() -> None:
    x = source(Input("x", TensorType((1, 16, 16, 1))))

    for kernel, kind in ((16, MaxPoolGradient), (15, PlacedGradient)):
        pooled = max_pool(x, kernel)
        (gradient,) = gradients(reduce_sum(pooled, (0, 1, 2, 3)), [x])
        assert isinstance(gradient.op, kind)
    assert 15 * 15 <= MOST_PLACES < 16 * 16


def test_where_all_of_a_window_is_not_a_number_no_place_is_named() -> None:
    x = np.array([[np.nan, np.nan], [np.nan, np.nan]], np.float32).reshape(1, 2, 2, 1)
    op = MaxPool((2, 2), (2, 2))

    places = MaxPoolPlaces(**op.attributes()).reference(x, np.full((1, 1, 1, 1), np.nan, np.float32))

    assert places.item() == 4
    upstream = np.ones((1, 1, 1, 1), np.float32)
    assert not PlacedGradient(**op.attributes(), input_size=(2, 2)).reference(places, upstream).any()
