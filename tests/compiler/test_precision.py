"""A step in lower precision rounds the factors of its products, and nothing else."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from dlc.api import recipe_of
from dlc.compiler.initial import initial_state, initial_weights
from dlc.compiler.interpret import evaluate, interpret
from dlc.compiler.ir import Input, TensorType, source
from dlc.compiler.ops.rounding import round_to
from dlc.compiler.training_step import build_training
from dlc.training import TrainingSession

SPEC = """
model Small {
    input image: [2, 6, 6]
    image -> c1: conv(4, 3) -> tanh -> flatten -> out: linear(5) -> output y
}
data digits {
    source npz(path="none.npz")
}
train T {
    model     Small
    data      digits
    loss      cross_entropy
    optimizer sgd(lr=0.5)
    batch     6
    epochs    1
    precision bfloat16
}
"""


def bfloat16(x: torch.Tensor) -> torch.Tensor:
    return x.detach().to(torch.bfloat16).float()


class Product(torch.autograd.Function):
    """A product whose factors, and those of its gradients, are rounded to bfloat16."""

    @staticmethod
    def forward(context, function, x, w):
        context.function = function
        context.save_for_backward(x, w)
        return function(bfloat16(x), bfloat16(w))

    @staticmethod
    def backward(context, upstream):
        x, w = context.saved_tensors
        with torch.enable_grad():
            rx, rw = bfloat16(x).requires_grad_(), bfloat16(w).requires_grad_()
            slopes = torch.autograd.grad(context.function(rx, rw), (rx, rw), bfloat16(upstream))
        return None, *slopes


def test_rounding_is_bfloat16s() -> None:
    r = np.random.default_rng(0)
    x = np.concatenate(
        [r.normal(size=1000) * 10.0 ** r.integers(-30, 30, 1000), [0.0, -0.0, np.inf, -np.inf, 1 + 2**-8]]
    )
    x = np.append(x.astype(np.float32), np.float32(1 + 3 * 2**-8))
    value = round_to(source(Input("x", TensorType(x.shape))), 8)

    (result,) = evaluate([value], {"x": x})

    assert np.array_equal(result, x.astype(ml_dtypes.bfloat16).astype(np.float32))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_rounds_factors_as_torch_does_by_hand(tmp_path: Path, compiled: bool) -> None:
    path = tmp_path / "small.dlspec"
    path.write_text(SPEC)
    recipe = recipe_of(path)
    r = np.random.default_rng(0)
    images, labels = r.normal(size=(6, 2, 6, 6)).astype(np.float32), r.integers(0, 5, 6).astype(np.int32)
    start = {**initial_weights(recipe.network, recipe), **initial_state(recipe)}
    w = {name: torch.tensor(array, requires_grad=True) for name, array in start.items()}

    conv = Product.apply(torch.nn.functional.conv2d, torch.tensor(images), w["c1.weight"])
    hidden = torch.tanh(conv + w["c1.bias"][:, None, None]).flatten(1)
    scores = Product.apply(torch.nn.functional.linear, hidden, w["out.weight"]) + w["out.bias"]
    torch.nn.functional.cross_entropy(scores, torch.tensor(labels).long()).backward()
    expected = {name: (v - 0.5 * v.grad).detach().numpy() for name, v in w.items()}

    feeds = {"image": images, "train.labels": labels, "train.rate.0": np.float32(0.5)}
    if compiled:
        session = TrainingSession(recipe)
        names = {s.name for s in session.step.program.inputs}
        more = {"train.step": np.uint32(0), "train.seed": np.uint32(0)}
        session.step.run({k: v for k, v in (feeds | more).items() if k in names})
        layouts = {s.name: s.layout for s in session.step.program.weights}
        got = {n: session.arrays[n] if layouts[n] is None else layouts[n].unpack(session.arrays[n]) for n in expected}
    else:
        graph = build_training(recipe, recipe.batch)
        more = {"train.step": np.uint32(0), "train.seed": np.uint32(0)}
        _, got = interpret(graph, {**start, **feeds, **more})
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=2e-3, atol=2e-5, err_msg=name)
        if name.endswith("weight"):
            assert not np.array_equal(got[name], start[name])


WIDE = """
model Wide {
    input image: [3, 11, 9]
    image -> c1: conv(40, 3, pad=1) -> tanh -> c2: conv(64, 3, stride=2, pad=1) -> tanh -> c3: conv(64, 3, groups=2) -> tanh
          -> c4: conv(33, 1, stride=2) -> tanh -> flatten -> out: linear(5) -> output y
}
"""


def test_a_step_of_odd_sizes_strides_and_groups_rounds_as_torch_does_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "wide.dlspec"
    path.write_text(WIDE + SPEC[SPEC.index("data digits") :].replace("Small", "Wide"))
    recipe = recipe_of(path)
    r = np.random.default_rng(0)
    images, labels = r.normal(size=(6, 3, 11, 9)).astype(np.float32), r.integers(0, 5, 6).astype(np.int32)
    session = TrainingSession(recipe)
    start = {**initial_weights(recipe.network, recipe), **initial_state(recipe)}
    w = {name: torch.tensor(array, requires_grad=True) for name, array in start.items()}

    hidden = torch.tensor(images)
    for name, options in (
        ("c1", {"padding": 1}), ("c2", {"stride": 2, "padding": 1}), ("c3", {"groups": 2}), ("c4", {"stride": 2}),
    ):  # fmt: skip
        product = Product.apply(partial(torch.nn.functional.conv2d, **options), hidden, w[f"{name}.weight"])
        hidden = torch.tanh(product + w[f"{name}.bias"][:, None, None])
    scores = Product.apply(torch.nn.functional.linear, hidden.flatten(1), w["out.weight"]) + w["out.bias"]
    torch.nn.functional.cross_entropy(scores, torch.tensor(labels).long()).backward()
    feeds = {"image": images, "train.labels": labels, "train.rate.0": np.float32(0.5)}
    feeds |= {"train.step": np.uint32(0), "train.seed": np.uint32(0)}
    session.step.run({s.name: feeds[s.name] for s in session.step.program.inputs})

    layouts = {s.name: s.layout for s in session.step.program.weights}
    for name, value in w.items():
        array, layout = session.arrays[name], layouts[name]
        moved = (array if layout is None else layout.unpack(array)) - start[name]
        expected = -0.5 * value.grad.numpy()
        # a sum that falls on the other side of a tie when it is rounded moves what follows by 2^-8 of it
        np.testing.assert_allclose(moved, expected, atol=6e-3 * np.abs(expected).max(), err_msg=name)


def test_bf16_is_a_word_for_bfloat16(tmp_path: Path) -> None:
    path = tmp_path / "small.dlspec"
    path.write_text(SPEC.replace("precision bfloat16", "precision bf16"))

    assert recipe_of(path).precision == "bfloat16"
