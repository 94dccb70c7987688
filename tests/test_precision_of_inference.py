"""Networks compiled with `precision="bf16"`: near to float32, half the size, and clear about what cannot be had."""

from pathlib import Path

import numpy as np
import pytest

import dlc
import dlc.api
from dlc.api import fresh_weights, one_network, recipe_of
from dlc.compiler.errors import DlcError
from dlc.data import load_data
from dlc.runtime.artifact import load_artifact

SPEC = """
model Small {
    input image: [3, 17, 19]
    image -> c1: conv(64, 3, pad=1, bias=false) -> batch_norm -> relu -> max_pool(2)
          -> c2: conv(64, 3, pad=1) -> relu
          -> c3: conv(64, 1) -> relu
          -> flatten -> f1: linear(64) -> relu -> f2: linear(7) -> output scores
}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "small.dlspec"
    path.write_text(SPEC)
    return path


@pytest.mark.parametrize("target", ["cpu", "x86-64-v3"])
def test_scores_are_near_to_those_of_float32(spec: Path, target: str) -> None:
    weights = fresh_weights(one_network(spec), seed=1)
    x = np.random.default_rng(0).normal(size=(5, 3, 17, 19)).astype(np.float32)

    exact = np.asarray(dlc.compile(spec, weights=weights)(x))
    near = np.asarray(dlc.compile(spec, weights=weights, target=target, precision="bf16")(x))

    assert near.dtype == np.float32
    np.testing.assert_allclose(near, exact, atol=0.03 * np.abs(exact).max())
    assert not np.array_equal(near, exact)


def test_an_artifact_has_half_the_weights_bytes_and_runs_as_before(spec: Path, tmp_path: Path) -> None:
    weights = fresh_weights(one_network(spec), seed=1)
    x = np.random.default_rng(0).normal(size=(3, 3, 17, 19)).astype(np.float32)
    net = dlc.compile(spec, weights=weights, precision="bf16")
    net.save(tmp_path / "bf16.dlc")

    loaded = dlc.load(tmp_path / "bf16.dlc")

    assert np.array_equal(np.asarray(loaded(x)), np.asarray(net(x)))
    artifact = load_artifact(tmp_path / "bf16.dlc")
    assert artifact.manifest.precision == "bfloat16"
    full = sum(w.nbytes for w in weights.values())
    assert sum(w.nbytes for w in artifact.weights.values()) < 0.6 * full


def test_a_precision_that_is_none_or_that_the_target_lacks_is_named(spec: Path) -> None:
    with pytest.raises(DlcError, match="there is no precision 'fp12'"):
        dlc.compile(spec, precision="fp12")
    with pytest.raises(DlcError, match="kernels for cpu have no float16"):
        dlc.compile(spec, precision="fp16")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_digits_are_told_as_in_float32_by_a_net_that_was_trained_in_either(precision: str, tmp_path: Path) -> None:
    spec = Path(dlc.__file__).parent / "specs" / "lenet5.dlspec"
    report = dlc.train(spec, recipe="LeNet5OnMini", out=tmp_path / "run", settings=[f"train.precision={precision}"])
    recipe = recipe_of(spec, "LeNet5OnMini")
    prepared = load_data(recipe, None)
    digits = prepared.preprocessing.normalize(prepared.test.images)
    best = tmp_path / "run" / "best.safetensors"

    exact, near = (
        np.argmax(np.asarray(dlc.compile(spec, model="LeNet5", weights=best, precision=p)(digits)), axis=1)
        for p in ("fp32", "bf16")
    )

    assert report.test_error <= 0.02
    assert len(digits) == 1000
    assert (near == exact).mean() > 0.99


def test_show_prints_the_network_in_a_precision(spec: Path) -> None:
    def after(stage: str, precision: str) -> str:
        return dlc.api.show_after(spec, stage, target="cuda", precision=precision)

    assert after("pack", "bf16").count(": bfloat16[") > 8
    assert "round" not in after("fuse", "fp32")
    lines = after("fuse", "tf32").splitlines()
    assert sum("round" in line for line in lines) == 5  # the image, and behind each kernel whose result a product reads
    assert all("+" in line for line in lines)
