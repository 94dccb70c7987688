"""The lectures' experiments: each spec trains to the outcome that its first lines state."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dlc.compiler.errors import SpecWarning
from dlc.experiments import Trial, train_all
from dlc.pages.run import Run, read_run
from dlc.runtime.errors import RuntimeFault

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "specs" / "experiments"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains an experiment whole, in an empty directory; gives its runs by recipe."""
    monkeypatch.chdir(tmp_path)

    def trained(name: str, *settings: str) -> dict[str, Run]:
        trials, page = train_all(EXPERIMENTS / f"{name}.dlspec", settings=settings)
        assert page == Path("runs", name, "compare.html") and page.exists()
        return {trial.recipe: read_run(trial.out) for trial in trials}

    return trained


def last(run: Run, measure: str) -> float:
    return float(run.history[-1][measure])


def gap(run: Run) -> float:
    """How much worse the loss is on the validation part than on the training part."""
    return last(run, "val.loss") - last(run, "train.loss")


@pytest.mark.slow
def test_momentum_and_adaptive_rates_are_ahead_of_plain_descent(runs: Any) -> None:
    found = runs("optimizers")

    early = {name: run.history[1]["train.loss"] for name, run in found.items()}
    assert all(early[name] < early["Sgd"] for name in ("Momentum", "Nesterov", "RmsProp", "Adam"))
    assert all(last(run, "val.error") < 0.06 for run in found.values())


@pytest.mark.slow
def test_the_right_rate_lies_between_too_low_and_too_high(runs: Any) -> None:
    found = runs("learning_rate")

    assert last(found["Right"], "val.error") < 0.05 < 0.2 < last(found["TooLow"], "val.error")
    assert not found["TooHigh"].history or last(found["TooHigh"], "val.error") > 0.5


@pytest.mark.slow
def test_equal_weights_stay_equal(runs: Any) -> None:
    with pytest.warns(SpecWarning, match="starts equal"):
        found = runs("zero_init")

    assert last(found["He"], "val.error") < 0.1
    assert last(found["Zeros"], "val.error") > 0.85 and last(found["Constant"], "val.error") > 0.4


@pytest.mark.slow
def test_gradients_fade_through_sigmoids_and_not_through_rectifiers(runs: Any) -> None:
    found = runs("vanishing_gradients")

    def faded(run: Run) -> float:
        norms = run.layers[0]["gradient.norm"]
        return float(norms["layers.1.linear_1.weight"] / norms["layers.7.linear_1.weight"])

    assert faded(found["Sigmoid"]) < 1e-3 and faded(found["Relu"]) > 0.1
    assert last(found["Sigmoid"], "val.error") > 0.8 and last(found["Relu"], "val.error") < 0.12


@pytest.mark.slow
def test_batch_norm_allows_larger_rates(runs: Any) -> None:
    found = runs("batch_norm")

    assert last(found["NormedFast"], "val.error") < 0.04
    assert not found["PlainFast"].history or last(found["PlainFast"], "val.error") > 0.5


@pytest.mark.slow
def test_dropout_and_l2_close_the_gap_to_validation(runs: Any) -> None:
    found = runs("regularization")

    assert all(gap(found[name]) < 0.9 * gap(found["Plain"]) for name in ("Dropout", "L2", "DropoutAndL2"))
    assert last(found["Dropout"], "val.error") < last(found["Plain"], "val.error")


@pytest.mark.slow
def test_a_deep_plain_network_trains_worse_than_its_residual_twin(runs: Any) -> None:
    found = runs("depth")

    assert last(found["Plain"], "train.error") > 1.5 * last(found["Shallow"], "train.error")
    assert last(found["Plain"], "train.error") > 1.5 * last(found["Residual"], "train.error")


@pytest.mark.slow
def test_heads_bring_gradients_to_lower_layers(runs: Any) -> None:
    found = runs("auxiliary_heads")

    assert last(found["TopOnly"], "val.error") > 0.8 and last(found["WithHeads"], "val.error") < 0.2


@pytest.mark.slow
def test_smoothed_labels_lower_confidence_and_error(runs: Any) -> None:
    found = runs("label_smoothing")

    assert last(found["Smooth"], "val.error") < last(found["Hard"], "val.error")
    sure = {name: [m.probability for m in run.evaluation.mistakes][:10] for name, run in found.items()}
    assert sum(sure["Smooth"]) < 0.9 * sum(sure["Hard"])


@pytest.mark.slow
def test_augmentation_is_data_for_nothing(runs: Any) -> None:
    found = runs("augmentation")

    assert all(
        last(found[name], "val.error") < 0.75 * last(found["Plain"], "val.error") for name in ("Augmented", "Elastic")
    )


@pytest.mark.slow
def test_a_deep_network_starts_from_a_shallow_one(runs: Any) -> None:
    found = runs("growth")

    assert last(found["FromShallow"], "train.loss") < 0.7 * last(found["FromNothing"], "train.loss")


def test_one_command_trains_every_recipe_and_compares_them(tmp_path: Path) -> None:
    for spec in ("base", "learning_rate"):
        shutil.copy(EXPERIMENTS / f"{spec}.dlspec", tmp_path)
    command = [
        sys.executable,
        "-m",
        "dlc",
        "train",
        "learning_rate.dlspec",
        "--all",
        "--set",
        "train.steps=20",
        "--json",
    ]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert [entry["recipe"] for entry in result["recipes"]] == ["TooLow", "Right", "TooHigh"]
    assert (tmp_path / result["comparison"]).exists() and (tmp_path / "runs/learning_rate/Right/report.html").exists()


def test_a_recipe_that_diverges_is_a_result_like_others(tmp_path: Path) -> None:
    spec = tmp_path / "diverge.dlspec"
    text = 'import "experiments/base.dlspec"\ntrain Bad extends Base { optimizer sgd(lr=1e30) }\ntrain Good extends Base { steps 5 }\n'
    spec.write_text(text)

    trials, page = train_all(spec, out=tmp_path / "runs")

    def outcome(trial: Trial) -> str:
        return trial.fault.code if trial.fault else "trained"

    assert [outcome(trial) for trial in trials] == ["R0421", "trained"]
    assert page is not None and (trials[0].out / "report.html").exists()


def test_a_spec_without_recipes_is_refused(tmp_path: Path) -> None:
    spec = tmp_path / "none.dlspec"
    spec.write_text("model M {\n    input x: [4]\n    x -> linear(2) -> output y\n}\n")

    with pytest.raises(RuntimeFault) as fault:
        train_all(spec)

    assert fault.value.code == "R0429"
