"""The learning-rate range test finds the rates that a quadratic's curvature allows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dlc.rate_search import find_rate
from dlc.runtime.training.range_test import DIVERGED, Point, range_test, rates, suggest_rate


class Parabola:
    """Gradient descent on w²/2 from w = 1: rates below 2 converge, the loss falls fastest towards 1."""

    def __init__(self):
        self.w, self.seen = 1.0, []

    def run(self, inputs, outputs=None):
        loss = self.w**2 / 2 + 0.01
        self.w -= inputs["rate"][0] * self.w
        self.seen.append(inputs["rate"])
        return {"train.loss": np.float32(loss)}


def feed(batch, step, own):
    return {"rate": own}


def test_rates_grow_by_the_same_factor():
    found = rates(1e-4, 1.0, 5)

    assert found == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_the_test_ends_when_the_loss_diverges_and_suggests_what_went_well():
    points = range_test(Parabola(), feed, iter(range(40)), rates(1e-2, 100.0, 40), [0.1])
    suggestion = suggest_rate(points)

    assert len(points) < 40
    assert points[-1].smooth > DIVERGED * min(p.smooth for p in points)
    assert suggestion.steepest is not None and suggestion.careful is not None
    assert 0.005 < suggestion.steepest < 2
    assert 0.005 < suggestion.careful < 2


def test_groups_keep_the_ratio_of_their_rates():
    step = Parabola()
    range_test(step, feed, iter(range(10)), rates(1e-3, 1e-2, 10), [0.1, 0.01])

    assert all(second == pytest.approx(first / 10) for first, second in step.seen)


def test_a_loss_that_only_grows_speaks_for_nothing():
    points = [Point(i, 10.0**i, float(i), float(i)) for i in range(5)]

    assert suggest_rate(points).steepest is None


def test_a_recipe_is_tested_from_the_spec(tmp_path):
    from pathlib import Path

    import dlc

    spec = Path(dlc.__file__).parent / "specs" / "lenet5.dlspec"
    found = find_rate(spec, low=1e-4, high=1e3, steps=40, out=tmp_path)

    lines = [json.loads(line) for line in (tmp_path / "lr_find.jsonl").read_text().splitlines()]
    assert [line["rate"] for line in lines] == [p.rate for p in found.points]
    assert found.suggestion.steepest is not None
    assert 0.003 < found.suggestion.steepest < 1


def test_the_command_refuses_rates_the_wrong_way_round_and_prints_what_it_found(tmp_path):
    from pathlib import Path

    from click.testing import CliRunner

    import dlc
    from dlc.cli import program

    spec = str(Path(dlc.__file__).parent / "specs" / "lenet5.dlspec")
    wrong = CliRunner().invoke(program, ["lr-find", spec, "--from", "1", "--to", "0.1"])
    right = CliRunner().invoke(
        program, ["lr-find", spec, "--from", "1e-4", "--steps", "30", "--out", str(tmp_path), "--json"]
    )

    assert wrong.exit_code == 2 and "is not below" in wrong.output
    assert right.exit_code == 0 and "the loss falls fastest at a rate of" in right.output
    found = json.loads(right.output.splitlines()[-1])
    assert set(found) >= {"steepest", "careful", "steps", "file"}
