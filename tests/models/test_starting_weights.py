"""A deep network starts from a shallow one's weights, as the deep VGGs were trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlc import api
from dlc.compiler.initial import initial_weights
from dlc.runtime.training.checkpoint import Weights
from dlc.runtime.weights import load_weights, save_weights
from dlc.training import TrainingSession

SPEC = """import "vgg.dlspec" as vgg

model A = vgg.Vgg([1, 1, 2, 2, 2], classes=10, size=32, hidden=16)

model D = vgg.Vgg([2, 2, 3, 3, 3], classes=10, size=32, hidden=16)

data images {
    source cifar10
}

train Deep {
    model     D
    data      images
    loss      cross_entropy
    optimizer sgd(lr=0.01)
    init      from "a.safetensors" else he
    batch     2
    epochs    1
}
"""


def test_vgg_d_takes_from_vgg_a_what_has_the_same_name_and_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = tmp_path / "spec.dlspec"
    spec.write_text(SPEC)
    first = api.fresh_weights(api.one_network(spec, model="A"), seed=3)
    save_weights(tmp_path / "a.safetensors", first)
    recipe = api.recipe_of(spec)
    assert recipe.init_from is not None
    session = TrainingSession(recipe)

    session.start_from(load_weights(recipe.init_from))
    start = Weights(session.step.program, session.arrays).canonical(state=False)

    drawn = initial_weights(recipe.network, recipe)
    taken = {name for name in start if name in first and first[name].shape == start[name].shape}
    assert {n for n in taken if n.endswith("weight")} == {
        "features.0.weight",
        *(f"classifier.{i}.weight" for i in (0, 3, 6)),
    }
    for name, array in start.items():
        np.testing.assert_array_equal(array, first[name] if name in taken else drawn[name], err_msg=name)
