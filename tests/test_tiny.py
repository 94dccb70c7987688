"""The whole product on one page: describe, check, train, compile, save, load, run."""

from pathlib import Path

import numpy as np
import pytest

import dlc

SPEC = """
model Tiny {
    input image: [1, 8, 8]
    image -> conv(8, 3) -> relu -> max_pool(2) -> flatten -> out: linear(10) -> output logits
}

data digits {
    source mnist-mini
    validate 10%
    resize 8
    normalize per_channel
}

train Quick {
    model Tiny
    data digits
    loss cross_entropy
    optimizer sgd(lr=0.1, momentum=0.9)
    batch 50
    epochs 2
}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.dlspec"
    path.write_text(SPEC)
    return path


def test_a_network_is_described_trained_saved_loaded_and_run(spec: Path, tmp_path: Path) -> None:
    report = dlc.train(spec, out=tmp_path / "run")

    assert report.test_error < 0.2
    assert report.epochs == 2
    names = {"last.safetensors", "best.safetensors", "model.dlc", "recipe.json", "metrics.jsonl"}
    assert names <= {p.name for p in report.out.iterdir()}
    net = dlc.load(report.artifact)
    assert net.classes == tuple("0123456789")
    assert dlc.evaluate(report.artifact).test_error == pytest.approx(report.test_error)
    for batch in (1, 3, 7):
        images = np.random.default_rng(batch).standard_normal((batch, 1, 8, 8), dtype=np.float32)
        one_by_one = np.concatenate([net(image[None]) for image in images])
        np.testing.assert_allclose(net(images), one_by_one, rtol=1e-4, atol=1e-5)


def test_a_spec_with_mistakes_reports_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "wrong.dlspec"
    path.write_text(SPEC.replace("relu", "rleu").replace("max_pool(2)", "max_pool(20)").replace("lr=0.1", "lr=-1"))

    with pytest.raises(dlc.DlcError) as caught:
        dlc.check(path)

    assert len(caught.value.diagnostics) >= 2
    assert "did you mean `relu`" in str(caught.value)


def test_the_same_seed_gives_the_same_weights_on_one_and_on_two_threads(spec: Path, tmp_path: Path) -> None:
    runs = [dlc.train(spec, out=tmp_path / f"run{n}", threads=n).out for n in (1, 2)]

    assert (runs[0] / "last.safetensors").read_bytes() == (runs[1] / "last.safetensors").read_bytes()
