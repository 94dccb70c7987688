"""What is said about a step's inside: statistics of layers are torch's, and a number that breaks is found where it broke."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dlc.api import recipe_of
from dlc.compiler.errors import DlcError
from dlc.compiler.recipe import Recipe
from dlc.runtime.errors import RuntimeFault
from dlc.training import TrainingSession, train

SPEC = """
model Small {{
    input image: [1, 28, 28]
    image -> c1: conv(5, 5, stride=3) -> relu -> flatten -> f1: linear(20) -> {middle} -> out: linear(10) -> output y
}}
data digits {{
    source mnist-mini
    validate 10%
}}
train T {{
    model Small
    data digits
    loss cross_entropy
    optimizer {optimizer}
    batch 50
    epochs 2
    {more}
}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Path]:
    def write(optimizer: str = "sgd(lr=0.1)", middle: str = "tanh", more: str = "") -> Path:
        path = tmp_path / "small.dlspec"
        path.write_text(SPEC.format(optimizer=optimizer, middle=middle, more=more))
        return path

    return write


def canonical(session: TrainingSession, recipe: Recipe) -> dict[str, torch.Tensor]:
    specs = {s.name: s for s in session.step.program.weights}
    found = {}
    for name in recipe.network.parameter_specs():
        layout = specs[name].layout
        array = session.arrays[name] if layout is None else layout.unpack(session.arrays[name])
        found[name] = torch.tensor(array).double().requires_grad_()
    return found


def test_statistics_of_layers_are_torchs(spec: Callable[..., Path]) -> None:
    recipe = recipe_of(spec())
    session = TrainingSession(recipe)
    r = np.random.default_rng(0)
    images, labels = r.normal(size=(50, 1, 28, 28)).astype(np.float32), r.integers(0, 10, 50).astype(np.int32)
    before = {name: array.copy() for name, array in session.arrays.items()}

    feeds = {"image": images, "train.labels": labels, "train.step": np.uint32(0), "train.seed": np.uint32(0)}
    found = session.watch().scales(feeds)

    assert all(np.array_equal(session.arrays[name], array) for name, array in before.items())
    w = canonical(session, recipe)
    c1 = F.conv2d(torch.tensor(images).double(), w["c1.weight"], w["c1.bias"], stride=3)
    relu = F.relu(c1)
    f1 = F.linear(relu.flatten(1), w["f1.weight"], w["f1.bias"])
    values = {"c1": c1, "relu_1": relu, "f1": f1, "tanh_1": torch.tanh(f1)}
    for value in values.values():
        value.retain_grad()
    F.cross_entropy(F.linear(values["tanh_1"], w["out.weight"], w["out.bias"]), torch.tensor(labels).long()).backward()
    for kind, tensors in (
        ("activation", values),
        ("activation_gradient", {n: v.grad for n, v in values.items()}),
        ("weight", w),
        ("gradient", {n: v.grad for n, v in w.items()}),
    ):
        for name, tensor in tensors.items():
            assert tensor is not None
            tensor = tensor.detach()
            expected = {
                "mean": tensor.mean(), "std": tensor.std(unbiased=False), "norm": tensor.norm(),
                "zeros": (tensor == 0).double().mean(),
            }  # fmt: skip
            for measure, value in expected.items():
                got = found[f"{kind}.{measure}"][name]
                assert got == pytest.approx(float(value), rel=2e-3, abs=2e-5), (kind, name, measure)


def test_a_run_writes_the_statistics_as_often_as_it_is_told(spec: Callable[..., Path], tmp_path: Path) -> None:
    train(spec(more="watch 1 epoch\n    metrics confusion"), out=tmp_path / "run")

    records = [json.loads(line) for line in (tmp_path / "run" / "layers.jsonl").read_text().splitlines()]
    epochs = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(r["step"], r["epoch"]) for r in records] == [(0, 0.0), (108, 1.0)]
    assert set(records[0]["activation.std"]) == {"c1", "relu_1", "f1", "tanh_1", "out"}
    assert np.sum(epochs[-1]["val.confusion"]) == 600
    assert np.trace(epochs[-1]["val.confusion"]) == pytest.approx(600 * (1 - epochs[-1]["val.error"]))
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())["resolved"]
    assert recipe["optimizer"] == [
        {"keyword": "sgd", "lr": 0.1, "momentum": 0.0, "nesterov": False, "form": "torch", "for": None}
    ]
    assert (recipe["watch"], recipe["accumulate"], recipe["data"]["validate"]) == ("1 epoch", 1, 0.1)


@pytest.mark.parametrize(
    ("optimizer", "middle", "words"),
    [
        ("sgd(lr=1e25)", "relu", "small.dlspec:4:"),
        ("sgd(lr=0.1)", "scale(1e30) -> scale(1e30)", "the values of scale_2"),
    ],
)
def test_a_number_that_breaks_is_found_where_it_broke(
    spec: Callable[..., Path], tmp_path: Path, optimizer: str, middle: str, words: str
) -> None:
    with pytest.raises(RuntimeFault) as caught:
        train(spec(optimizer, middle), out=tmp_path / "run")

    assert caught.value.code == "R0421"
    assert "the first that is not finite" in caught.value.message
    assert words in caught.value.message
    assert "resume.safetensors, of step 0" in caught.value.help


def test_validation_measures_the_recipes_loss(spec: Callable[..., Path], tmp_path: Path) -> None:
    path = spec()
    path.write_text(path.read_text().replace("loss cross_entropy", "loss 0.5 * mean_squared_error"))
    report = train(path, out=tmp_path / "run")

    last = report.history[-1]
    assert last["val.loss"] < 0.05  # cross-entropy of ten classes would be above 1 here
    assert math.isclose(last["val.loss"], last["train.loss"], rel_tol=0.5)


def test_a_full_batch_is_one_step_an_epoch(spec: Callable[..., Path], tmp_path: Path) -> None:
    path = spec("rprop(lr=1e-3)", more="accumulate 4")
    path.write_text(path.read_text().replace("batch 50", "batch all").replace("validate 10%", "validate 80%"))
    report = train(path, out=tmp_path / "run")

    assert [record["step"] for record in report.history] == [1, 2]
    assert report.history[1]["train.loss"] < report.history[0]["train.loss"]
    path.write_text(path.read_text().replace("accumulate 4", "accumulate 7"))
    with pytest.raises(DlcError, match="all 1200 training samples cannot be divided into 7 equal parts"):
        train(path, out=tmp_path / "run")


def test_a_recipe_that_does_not_fit_into_memory_is_refused(
    spec: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlc.training.available_memory", lambda: 1_000_000)

    with pytest.raises(RuntimeFault, match=r"training needs [\d.]+ MB of memory .* but 977 KB are to be had") as caught:
        TrainingSession(recipe_of(spec()))

    assert caught.value.code == "R0207"
    assert "accumulate" in caught.value.help
