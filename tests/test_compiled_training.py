"""Compiled training steps move every weight as the interpreter moves it in float64: all layer families, dropout included."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest

import dlc
from dlc.api import recipe_of
from dlc.compiler.codegen.target import Target
from dlc.compiler.initial import initial_state, initial_weights
from dlc.compiler.interpret import interpret
from dlc.compiler.pipeline import compile_training
from dlc.compiler.recipe import Recipe
from dlc.compiler.training_step import build_training
from dlc.runtime.arrays import aligned_copy
from dlc.runtime.executor import Executor
from dlc.training import TrainingSession

BATCH, STEPS = 3, 2

SPEC = """
model M {{
    input image: [3, {size}, {size}]
{body}
}}
data digits {{
    source npz
}}
train T {{
    model M
    data digits
    loss {loss}
    optimizer {optimizer}
    batch {batch}
    epochs 1
    seed 7
    {more}
}}
"""


def make_recipe(
    folder: Path,
    body: str,
    *,
    size: int = 8,
    loss: str = "cross_entropy",
    optimizer: str = "sgd(lr=0.05, momentum=0.9)",
    more: str = "",
    batch: int = BATCH,
) -> Recipe:
    path = folder / "m.dlspec"
    body = textwrap.indent(textwrap.dedent(body), "    ")
    path.write_text(SPEC.format(body=body, size=size, loss=loss, optimizer=optimizer, more=more, batch=batch))
    return recipe_of(path)


def start_of(recipe: Recipe) -> dict[str, np.ndarray]:
    return {**initial_weights(recipe.network, recipe), **initial_state(recipe)}


def feeds_of(recipe: Recipe, step: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(step)
    (classes,) = next(o.tensor.shape for o in recipe.network.outputs if o.name == recipe.losses[0].output)
    rates = {f"train.rate.{i}": np.float32(0.05 / (1 + i)) for i in range(len(recipe.optimizers))}
    return {
        "image": generator.normal(size=(recipe.batch, *recipe.network.inputs[0].shape)).astype(np.float32),
        "train.labels": generator.integers(0, classes, recipe.batch).astype(np.int32),
        "train.step": np.uint32(step),
        "train.seed": np.uint32(recipe.seed),
        **rates,
    }


def interpreted(recipe: Recipe, steps: int = STEPS) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Every step's outputs, and what weights, statistics and optimizer state hold in the end: float64, canonical."""
    graph = build_training(recipe, recipe.batch)
    arrays = {name: array.astype(np.float64) for name, array in start_of(recipe).items()}
    outputs = []
    for step in range(steps):
        feeds = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feeds_of(recipe, step).items()}
        result, updated = interpret(graph, {**arrays, **feeds})
        outputs.append(result)
        arrays |= updated
    return outputs, arrays


def compiled(recipe: Recipe, steps: int = STEPS) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """The same by the compiled step."""
    made = compile_training(recipe, Target.parse("cpu"), recipe.batch)
    given = {**start_of(recipe), **made.constants}
    specs = {spec.name: spec for spec in made.program.weights}
    arrays = {
        name: aligned_copy(given[name] if spec.layout is None else spec.layout.pack(given[name]))
        for name, spec in specs.items()
    }
    step_function = Executor(made.program, made.function, arrays, None)
    known = {spec.name for spec in made.program.inputs}
    outputs = []
    for step in range(steps):
        result = step_function.run({k: v for k, v in feeds_of(recipe, step).items() if k in known})
        outputs.append({name: np.array(array) for name, array in result.items()})
    layouts = {name: spec.layout for name, spec in specs.items()}
    return outputs, {n: a if (to := layouts[n]) is None else to.unpack(a) for n, a in arrays.items()}


def assert_steps_agree(recipe: Recipe, steps: int = STEPS) -> None:
    expected, after = interpreted(recipe, steps)
    got, arrays = compiled(recipe, steps)
    for ours, reference in zip(got, expected, strict=True):
        assert ours.keys() == reference.keys()
        for name, array in reference.items():
            np.testing.assert_allclose(ours[name], array, rtol=1e-4, atol=1e-4, err_msg=name)
    trained = {name for name in arrays if name in after}
    assert {name.partition("@")[0] for name in trained} == {name for name in trained if "@" not in name}
    for name in trained:
        largest = float(np.abs(after[name]).max())
        np.testing.assert_allclose(arrays[name], after[name], rtol=0, atol=3e-4 * (0.03 + largest), err_msg=name)


LAYERS = {
    "strides": """
        image -> conv(5, 3, stride=2, pad=1) -> tanh -> conv(18, 5, stride=3, pad=2, bias=false) -> tanh
            -> conv(7, 1, stride=2) -> tanh -> flatten -> linear(4) -> output y""",
    "groups": """
        image -> conv(8, 3) -> tanh -> conv(12, 3, groups=4, pad=same) -> tanh -> conv(12, 3, groups=12, pad=same) -> tanh
            -> conv(24, 3, groups=12, stride=2, pad=1) -> tanh -> conv(6, 2, groups=2) -> flatten -> linear(4) -> output y""",
    "asymmetric and dilated": """
        image -> conv(5, (1, 3), pad=(0, 1)) -> tanh -> conv(7, (3, 1), stride=(2, 1), pad=(1, 0, 2, 1)) -> tanh
            -> conv(9, 3, dilation=2, pad=2) -> tanh -> conv(5, (3, 2), dilation=(1, 3), stride=2) -> tanh
            -> conv(6, (2, 1), pad=same_upper) -> flatten -> linear(4) -> output y""",
    "transposed": """
        image -> conv(6, 3, stride=2, pad=1) -> tanh -> conv_transpose(6, 3, stride=2, pad=1, output_pad=1) -> tanh
            -> conv_transpose(4, 2, groups=2) -> flatten -> linear(4) -> output y""",
    "max pools": """
        image -> conv(5, 3, pad=1) -> max_pool(3, stride=2, pad=1) -> tanh -> max_pool(3, stride=2, round=ceil) -> tanh
            -> max_pool((2, 1), stride=1) -> flatten -> linear(4) -> output y""",
    "average pools": """
        image -> conv(5, 3, pad=1) -> avg_pool(3, stride=2, pad=1) -> tanh -> avg_pool(3, stride=2, round=ceil, pad=1) -> tanh
            -> avg_pool(2, stride=1, pad=1, count_padding=false) -> flatten -> linear(4) -> output y""",
    "min and global pools": """
        a = image -> conv(5, 3, pad=1) -> min_pool(3, stride=2, pad=1)
        b = a -> conv(6, 3, pad=1) -> min_pool(3, stride=2, round=ceil) -> adaptive_avg_pool((1, 2)) -> flatten
        a -> fork(global_avg_pool, global_max_pool, x => b) -> concat -> linear(4) -> output y""",
    "batch norm": """
        image -> conv(6, 3, bias=false) -> batch_norm -> relu -> conv(6, 3) -> batch_norm(momentum=0.3, affine=false) -> tanh
            -> flatten -> linear(7) -> batch_norm -> tanh -> linear(4) -> output y""",
    "other norms": """
        image -> conv(6, 3) -> group_norm(3) -> tanh -> conv(6, 3) -> instance_norm(affine=true) -> tanh
            -> conv(5, 3) -> layer_norm -> tanh -> conv(5, 1) -> layer_norm(over=channels) -> flatten -> linear(4) -> output y""",
    "response norm": """
        image -> conv(8, 3) -> local_response_norm(5, alpha=0.1) -> tanh
            -> conv(8, 3) -> local_response_norm(3, alpha=0.5, divide=false, k=2.0) -> flatten -> linear(4) -> output y""",
    "activations of the first kind": """
        image -> conv(6, 3) -> sigmoid -> conv(6, 1) -> scaled_tanh -> conv(6, 1) -> leaky_relu(0.1) -> conv(6, 1) -> elu
            -> conv(6, 1) -> selu -> conv(6, 1) -> prelu -> conv(6, 1) -> prelu(shared=true) -> flatten -> linear(5) -> prelu
            -> linear(4) -> output y""",
    "activations of the second kind": """
        image -> conv(6, 3) -> gelu -> conv(6, 1) -> gelu(approximate=tanh) -> conv(6, 1) -> silu -> conv(6, 1) -> hard_sigmoid
            -> conv(6, 1) -> hard_swish -> conv(6, 1) -> softplus -> conv(6, 1) -> clip(-0.5, 0.5) -> conv(6, 1) -> softmax
            -> conv(6, 1) -> log_softmax -> scale(0.5) -> offset(0.2) -> flatten -> linear(4) -> output y""",
    "forks": """
        image -> conv(6, 3) -> fork(
                conv(5, 1) -> relu, conv(4, 3, pad=same) -> tanh, max_pool(3, stride=1, pad=1) -> conv(3, 1), identity,
            ) -> concat -> conv(6, 3, pad=1) -> fork(conv(4, 1), conv(4, 3, pad=1)) -> multiply
            -> flatten -> linear(4) -> output y""",
    "residual blocks": """
        image -> conv(6, 3, pad=1) -> residual(conv(6, 3, pad=1) -> batch_norm -> relu -> conv(6, 3, pad=1)) -> relu
            -> residual(
                conv(10, 3, stride=2, pad=1),
                slice(0, 8, axis=height, step=2) -> slice(0, 8, axis=width, step=2) -> pad(channels=(2, 2)),
            ) -> flatten -> linear(4) -> output y""",
    "shapes": """
        image -> pad(1, value=0.5) -> conv(6, 3) -> crop(4) -> upsample(2) -> conv(4, 3) -> upsample(2, mode=bilinear)
            -> conv(4, 3, stride=2) -> slice(1, 4) -> reshape((3, 5, 5)) -> conv(4, 2) -> flatten -> linear(4) -> output y""",
    "dropout": """
        image -> conv(6, 3) -> relu -> dropout(0.3) -> conv(6, 3) -> relu -> dropout(0.5, at="inference")
            -> flatten -> linear(30) -> relu -> dropout -> linear(4) -> output y""",
    "1998": """
        image -> conv_connect([(0, 1), (1, 2), (0, 2), (0, 1, 2)], 3, stride=2, pad=1) -> scaled_tanh
            -> subsample(3, stride=1) -> scaled_tanh -> flatten -> linear(12) -> tanh
            -> rbf(5, prototypes=random, trainable=true) -> output y""",
    "shared weights": """
        f = conv(3, 3, pad=same) -> batch_norm
        image -> f -> tanh -> f -> tanh -> flatten -> linear(4) -> output y""",
}


@pytest.mark.parametrize("layers", LAYERS)
def test_compiled_training_steps_are_the_interpreters(layers: str, tmp_path: Path) -> None:
    assert_steps_agree(make_recipe(tmp_path, LAYERS[layers]))


RESIDUAL = """
import "blocks/residual.dlspec"
import "resnet_cifar.dlspec"
model ResNet8 = CifarNet(BasicA, 1)
data digits {
    source npz
}
train T {
    model ResNet8
    data digits
    loss cross_entropy
    optimizer sgd(lr=0.05, momentum=0.9)
    batch 2
    epochs 1
}
"""

SMALL = """
a = image -> conv(6, 3, pad=same, bias=false) -> batch_norm -> relu -> max_pool(2)
a -> global_avg_pool -> linear(4) -> output aux when training
a -> flatten -> dropout(0.2) -> out: linear(4) -> output y
"""


@pytest.mark.parametrize(
    ("optimizer", "loss", "more"),
    [
        (
            "adam(lr=0.01)",
            "cross_entropy(y, label_smoothing=0.1) + 0.3 * cross_entropy(aux)",
            "regularize l2(1e-2, except=[bias, batch_norm])",
        ),
        ("rmsprop(lr=0.01)", "hinge(y) + mean_squared_error(aux)", "regularize decay(0.1)"),
        (
            "sgd(lr=0.05, momentum=0.9, nesterov=true)",
            "cross_entropy(y) + cross_entropy(aux)",
            "optimizer adamw(lr=0.01) for out.*\n    regularize clip_norm(0.5)",
        ),
    ],
    ids=["adam", "rmsprop", "groups"],
)
def test_optimizers_losses_and_regularizers_are_the_interpreters(
    optimizer: str, loss: str, more: str, tmp_path: Path
) -> None:
    assert_steps_agree(make_recipe(tmp_path, SMALL, optimizer=optimizer, loss=loss, more=more))


def test_two_programs_over_the_same_weights_keep_their_own_constants(tmp_path: Path) -> None:
    body = """
        image -> conv(6, 3) -> batch_norm(affine=false) -> tanh -> flatten -> linear(7) -> batch_norm(affine=false)
            -> linear(4) -> output y"""
    recipe = make_recipe(tmp_path, body)
    session = TrainingSession(recipe)

    scores = session.evaluation.run({"image": feeds_of(recipe, 0)["image"]})["y"]

    assert scores.shape == (BATCH, 4)
    assert np.isfinite(scores).all()


def test_a_residual_network_for_cifar_takes_the_interpreters_steps(tmp_path: Path) -> None:
    """Its smallest, one block to a stage: the shortcuts without weights, the strides, batch norm, the average over the image."""
    path = tmp_path / "small.dlspec"
    path.write_text(RESIDUAL)

    assert_steps_agree(recipe_of(path))


@pytest.mark.slow
def test_a_residual_network_of_20_layers_takes_the_interpreters_steps() -> None:
    spec = Path(dlc.__file__).parent / "specs" / "resnet_cifar.dlspec"

    assert_steps_agree(recipe_of(spec, settings=["train.batch=2"]), steps=1)


def test_every_loss_is_compiled_right(tmp_path: Path) -> None:
    body = """
        a = image -> conv(6, 3) -> tanh -> flatten
        a -> linear(4) -> output aux when training
        a -> linear(4) -> log_softmax -> output chances when training
        a -> linear(4) -> output y"""
    loss = """cross_entropy(y, label_smoothing=0.1, smoothing=others) + 0.5 * binary_cross_entropy(y)
        + hinge(y, squared=true) + 2 * huber(y, delta=0.3) + mean_absolute_error(aux) + mean_squared_error(aux)
        + 0.1 * rbf_map(aux) + negative_log_likelihood(chances)"""

    assert_steps_agree(make_recipe(tmp_path, body, loss=" ".join(loss.split())))
