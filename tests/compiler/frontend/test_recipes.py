"""Data and train sections: every setting, groups, losses over outputs, overrides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dlc.compiler.averaging import Ema
from dlc.compiler.errors import Diagnostic
from dlc.compiler.frontend import Checked
from dlc.compiler.recipe import Recipe

NET = """
model Net(classes: int = 10) {
    input image: [1, 28, 28]
    mid = image -> c1: conv(8, 5) -> b1: batch_norm -> relu
    mid -> global_avg_pool -> head: linear(classes) -> output aux when training
    mid -> flatten -> fc: linear(classes) -> output logits
}
"""
DATA = "data digits { source mnist-mini }\n"
LINES = {
    "model": "Net", "data": "digits", "loss": "cross_entropy", "optimizer": "sgd(lr=0.1)", "epochs": "2",
}  # fmt: skip


def _text(data: str = DATA, **lines: str) -> str:
    settings = {**LINES, **lines}
    rows = "".join(f"    {name} {row}\n" for name, value in settings.items() for row in value.split("; ") if row)
    return f"{NET}{data}train Run {{\n{rows}}}\n"


@pytest.fixture
def recipe(checked: Callable[..., Checked]) -> Callable[..., Recipe]:
    def build(*settings: str, **lines: str) -> Recipe:
        return checked(_text(**lines), *settings).recipes["Run"]

    return build


def test_what_is_not_given_has_defaults(recipe: Callable[..., Recipe]) -> None:
    made = recipe()

    assert (made.batch, made.epochs, made.steps, made.seed, made.schedules, made.stop) == (32, 2, None, 0, (), None)
    assert (made.data.validate, made.data.resize, made.data.normalize, made.data.augment) == (0.0, None, None, ())


def test_losses_are_a_weighted_sum_over_outputs(recipe: Callable[..., Recipe]) -> None:
    made = recipe(loss="cross_entropy(logits) + 0.3 * cross_entropy(aux, label_smoothing=10%)")

    assert [(t.output, t.weight) for t in made.losses] == [("logits", 1.0), ("aux", 0.3)]
    assert made.losses[1].loss.label_smoothing == 0.1  # type: ignore[attr-defined]  # a field of this loss


def test_metrics_look_at_the_first_judged_output_that_inference_has(recipe: Callable[..., Recipe]) -> None:
    made = recipe(loss="0.3 * cross_entropy(aux) + cross_entropy(logits)")

    assert made.scores == "logits"


def test_weights_of_a_bracketed_sum_multiply(recipe: Callable[..., Recipe]) -> None:
    made = recipe(loss="0.5 * (cross_entropy(logits) + cross_entropy(aux) * 0.5)")

    assert [t.weight for t in made.losses] == [0.5, 0.25]


def test_optimizers_and_initializers_differ_by_group(recipe: Callable[..., Recipe]) -> None:
    made = recipe(
        optimizer="adam(lr=0.01); sgd(lr=0.001) for c1.*",
        init='from "runs/a/best.safetensors" else he; normal(0.01) for fc, constant(1) for c1.bias',
    )

    assert [(type(g.optimizer).__name__, g.pattern) for g in made.optimizers] == [("Adam", None), ("Sgd", "c1.*")]
    assert [(g.initializer.keyword, g.pattern) for g in made.init] == [
        ("he", None), ("normal", "fc"), ("constant", "c1.bias"),
    ]  # fmt: skip
    assert made.init_from == "runs/a/best.safetensors"


def test_regularizers_come_as_a_list(recipe: Callable[..., Recipe]) -> None:
    made = recipe(
        regularize='l1(1e-5), elastic_net(1e-6, l2=1e-4), decay(0.01, except=[norm, fc, "c1.*"]), clip_norm(5)'
    )

    assert [(r.kind, r.rate, r.excluded) for r in made.regularizers] == [
        ("l1", 1e-5, ()), ("l1", 1e-6, ()), ("l2", 1e-4, ()), ("decay", 0.01, ("norm", "fc", "c1.*")), ("clip_norm", 5.0, ()),
    ]  # fmt: skip


def test_steps_and_durations_have_units(recipe: Callable[..., Recipe]) -> None:
    made = recipe(epochs="", steps="64_000", schedule="multi_step(at=[32_000 steps, 1 epoch])")

    assert (made.epochs, made.steps) == (None, 64_000)
    assert [(d.amount, d.unit) for d in made.schedules[0].at] == [(32_000, "step"), (1, "epoch")]


def test_a_schedule_waits_for_a_condition(recipe: Callable[..., Recipe]) -> None:
    made = recipe(schedule="constant(rate=0.01, until=train.error < 80%) then cyclic(0.001, rise=2 epochs)")

    until = made.schedules[0].until
    assert (until.monitor, until.relation, until.bound) == ("train.error", "<", 0.8)
    assert made.schedules[1].rise.amount == 2


def test_how_a_step_is_made_and_averaged(recipe: Callable[..., Recipe]) -> None:
    made = recipe(batch="64", accumulate="4", average="ema(0.99, ramp=true)")

    assert (made.batch, made.accumulate, made.average) == (64, 4, Ema(0.99, True))


def test_a_batch_may_be_all_samples(recipe: Callable[..., Recipe]) -> None:
    made = recipe(batch="all", accumulate="5")

    assert (made.batch, made.accumulate) == (0, 5)


def test_a_group_is_frozen_and_another_decays_by_its_own_rate(recipe: Callable[..., Recipe]) -> None:
    made = recipe(optimizer="sgd(lr=0.1), frozen for c1.*", regularize="l2(1e-4, except=bias), l2(1e-3) for fc")

    assert [(g.optimizer.keyword, g.pattern) for g in made.optimizers] == [("sgd", None), ("frozen", "c1.*")]
    assert [(r.rate, r.pattern, r.excluded) for r in made.regularizers] == [(1e-4, None, ("bias",)), (1e-3, "fc", ())]


def test_a_model_is_given_its_arguments(recipe: Callable[..., Recipe]) -> None:
    made = recipe(model="Net(classes=17)")

    assert {o.tensor.shape for o in made.network.outputs} == {(17,)}


def test_data_settings(checked: Callable[..., Checked]) -> None:
    data = (
        'data digits {\n    source npz(path="digits.npz", test=30%)\n    validate 0.25\n    resize (28, 28)\n'
        "    normalize mean=0.13, std=[0.3]\n    augment shift(pixels=2), rotate(5deg) -> flip\n}\n"
    )

    made = checked(_text(data=data)).recipes["Run"].data

    assert (made.source.path, made.source.test) == ("digits.npz", 0.3)
    assert (made.validate, made.resize, made.normalize) == (0.25, (28, 28), ((0.13,), (0.3,)))
    assert [t.keyword for t in made.augment] == ["shift", "rotate", "flip"]


def test_a_source_takes_its_path_behind_a_comma(checked: Callable[..., Checked]) -> None:
    text = _text(data='data digits { source npz, path="digits.npz" }\n')

    assert checked(text).recipes["Run"].data.source.path == "digits.npz"


@pytest.mark.parametrize(
    ("setting", "read", "value"),
    [
        ("train.batch=64", lambda r: r.batch, 64),
        ("train.Run.batch=2*32", lambda r: r.batch, 64),
        ("train.epochs=4", lambda r: r.epochs, 4),
        ("train.steps=100", lambda r: (r.epochs, r.steps), (None, 100)),
        ("train.optimizer=adam(lr=0.5)", lambda r: r.optimizers[0].optimizer.lr, 0.5),
        ("train.optimizer.lr=0.5", lambda r: r.optimizers[0].optimizer.lr, 0.5),
        ("train.model.classes=13", lambda r: r.network.outputs[0].tensor.shape, (13,)),
        ("train.schedule=warmup(1 epoch) then cosine", lambda r: len(r.schedules), 2),
        ("data.source=mnist", lambda r: r.data.source.keyword, "mnist"),
        ("data.source=fashion-mnist", lambda r: r.data.source.keyword, "fashion-mnist"),
        ("data.digits.validate=20%", lambda r: r.data.validate, 0.2),
        ("data.resize=28", lambda r: r.data.resize, (28, 28)),
    ],
)
def test_settings_are_overridden(
    recipe: Callable[..., Recipe], setting: str, read: Callable[[Recipe], Any], value: Any
) -> None:
    assert read(recipe(setting)) == value


def test_the_recipe_shows_its_settings_as_they_are_after_overriding(recipe: Callable[..., Recipe]) -> None:
    made = recipe("train.batch=64", "train.optimizer.lr=0.5", "train.batch=16")

    assert made.settings["batch"] == "16"
    assert made.settings["optimizer"] == "sgd(lr=0.5)"
    assert made.settings["model"] == "Net"


@pytest.mark.parametrize(
    ("setting", "code", "words"),
    [
        ("train.bach=64", "E0801", "did you mean `batch`?"),
        ("trian.batch=64", "E0817", "did you mean `train`?"),
        ("train.Rum.batch=64", "E0801", "did you mean `Run`?"),
        ("train.batch", "E0817", "write train.KEY=VALUE"),
        ("train=3", "E0817", "write train.KEY=VALUE"),
        ("train.batch=", "E0817", "write train.KEY=VALUE"),
        ("train.batch=-1", "E0807", ""),
        ("train.batch=big", "E0401", ""),
        ("train.batch=(", "E0104", ""),
        ("train.batch=64 }\ndata x {", "E0817", ""),
        ("train.optimizer.lrr=0.1", "E0501", "did you mean `lr`?"),
        ("train.init.mode=1", "E0817", ""),
        ("data.source=minst", "E0809", "did you mean `mnist`?"),
    ],
)
def test_overrides_that_cannot_be_made_are_explained(
    mistakes: Callable[..., list[Diagnostic]], setting: str, code: str, words: str
) -> None:
    found = mistakes(_text(), setting)

    assert [d.code for d in found] == [code]
    assert words in found[0].help


def test_every_recipe_of_a_file_is_checked_and_kept_in_order(checked: Callable[..., Checked]) -> None:
    text = _text() + _text().replace(NET, "").replace(DATA, "").replace("train Run", "train Again")

    assert list(checked(text).recipes) == ["Run", "Again"]
