"""A deep network starts from a shallow one's weights, as the deep VGGs were trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dlc
from dlc import api
from dlc.compiler.initial import initial_weights
from dlc.runtime.training.checkpoint import Weights
from dlc.runtime.weights import load_weights, save_weights
from dlc.training import TrainingSession

SPEC = """import "vgg_2014.dlspec" as vgg

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

SHARED = [
    *("conv1.0.conv", "conv2.0.conv", "conv3.0.conv", "conv3.1.conv", "conv4.0.conv", "conv4.1.conv"),
    *("conv5.0.conv", "conv5.1.conv", "fc6", "fc7", "fc8"),
]
"""The layers of VGG A that VGG D has too."""


def test_vgg_d_takes_from_vgg_a_what_has_the_same_name_and_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = tmp_path / "spec.dlspec"
    spec.write_text(SPEC)
    first = api.fresh_weights(api.one_network(spec, model="A"), seed=3)
    save_weights(tmp_path / "a.safetensors", first)
    recipe = api.recipe_of(spec, "Deep")
    assert recipe.init_from is not None
    session = TrainingSession(recipe)

    session.start_from(load_weights(recipe.init_from))
    start = Weights(session.step.program, session.arrays).canonical(state=False)

    drawn = initial_weights(recipe.network, recipe)
    taken = {name for name in start if name in first and first[name].shape == start[name].shape}
    assert {n for n in taken if n.endswith("weight")} == {f"{scope}.weight" for scope in SHARED}
    for name, array in start.items():
        np.testing.assert_array_equal(array, first[name] if name in taken else drawn[name], err_msg=name)


def test_the_shipped_recipe_of_vgg_d_starts_from_what_the_one_of_a_leaves() -> None:
    spec = Path(dlc.__file__).parent / "specs" / "vgg_2014.dlspec"
    first, deep = (api.recipe_of(spec, name) for name in ("A", "D"))
    had, has = first.network.parameter_specs(), deep.network.parameter_specs()

    assert deep.init_from == f"runs/{first.name}/best.safetensors"
    assert {n for n in has if n in had and n.endswith("weight")} == {f"{scope}.weight" for scope in SHARED}
    assert all(has[name].shape == had[name].shape for name in has if name in had)


@pytest.mark.parametrize("place", ["beside the spec", "where the user stands"])
def test_weights_to_start_from_are_looked_for_beside_the_spec_and_then_here(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, here = tmp_path / "specs", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    text = (Path(dlc.__file__).parent / "specs" / "mlp.dlspec").read_text(encoding="utf-8")
    spec = folder / "mlp.dlspec"
    spec.write_text(text.replace("    epochs    10", '    epochs    1\n    init      from "start.safetensors" else he'))
    network = api.one_network(spec)
    weights = api.fresh_weights(network, seed=9)
    save_weights((folder if place == "beside the spec" else here) / "start.safetensors", weights)
    if place == "beside the spec":  # where it wins
        save_weights(here / "start.safetensors", {})
    seen: list[dict[str, np.ndarray]] = []
    monkeypatch.setattr(TrainingSession, "start_from", lambda session, start: seen.append(start))

    with pytest.raises(dlc.RuntimeFault, match="R0427"):
        api.train(spec, settings=["train.epochs=0.0001"])

    (start,) = seen
    for name, array in weights.items():
        np.testing.assert_array_equal(start[name], array)
