"""Dense evaluation: a fully convolutional network on whole, larger images, as PyTorch computes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dlc import api
from dlc.compiler.dense import fully_convolutional
from dlc.compiler.errors import DlcError
from dlc.loading import load, load_dense
from dlc.measuring import evaluate
from dlc.runtime.errors import RuntimeFault

VGG = """
model Net {
    input image: [3, 16, 16]
    image -> c1: conv(8, 3, pad=1) -> relu -> max_pool(2) -> c2: conv(12, 3, pad=1) -> relu -> max_pool(2)
        -> adaptive_avg_pool(4) -> flatten -> dropout(0.5) -> f1: linear(20) -> bn: batch_norm -> relu -> f2: linear(7)
        -> softmax -> output scores
}
"""
LENET = """
import "lenet5.dlspec" as lenet
model Net = lenet.LeNet5
"""
TRAINED = """
data digits {
    source mnist-mini
    validate 10%
    resize 32
    augment crop(28)
    normalize per_channel
    evaluate dense
}
model Net {
    input image: [1, 28, 28]
    image -> conv(6, 5) -> relu -> max_pool(2) -> conv(16, 5) -> relu -> max_pool(2) -> flatten -> linear(84) -> relu
        -> linear(10) -> output scores
}
train T {
    model Net
    data digits
    loss cross_entropy
    optimizer sgd(lr=0.05, momentum=0.9)
    batch 50
    epochs 2
    seed 1
}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "net.dlspec"
    path.write_text(text, encoding="utf-8")
    return path


def convolutional(linear: nn.Linear, channels: int, height: int, width: int) -> nn.Conv2d:
    made = nn.Conv2d(channels, linear.out_features, (height, width))
    made.weight.data = linear.weight.data.reshape(linear.out_features, channels, height, width)
    made.bias = linear.bias
    return made


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (40, 25)])
def test_a_vgg_like_network_is_pytorchs_fully_convolutional_one(tmp_path: Path, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    c1, c2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
    f1, f2, bn = nn.Linear(12 * 16, 20), nn.Linear(20, 7), nn.BatchNorm2d(20)
    bn.running_mean.normal_()
    bn.running_var.uniform_(0.5, 2)
    parts = {"c1": c1, "c2": c2, "f1": f1, "f2": f2, "bn": bn}
    save_file(
        {f"{n}.{k}": v for n, m in parts.items() for k, v in m.state_dict().items() if k != "num_batches_tracked"},
        tmp_path / "w.safetensors",
    )
    api.compile_to_file(written(tmp_path, VGG), tmp_path / "net.dlc", weights=tmp_path / "w.safetensors")
    x = torch.randn(3, 3, *size)
    pool = nn.MaxPool2d(2)
    whole = nn.Sequential(c1, nn.ReLU(), pool, c2, nn.ReLU(), pool, convolutional(f1, 12, 4, 4), bn, nn.ReLU())
    whole.append(convolutional(f2, 20, 1, 1)).eval()

    with torch.inference_mode():
        want = whole(x).mean((2, 3)).softmax(1).numpy()

    np.testing.assert_allclose(load_dense(tmp_path / "net.dlc", size)(x.numpy()), want, rtol=1e-4, atol=1e-6)


def test_lenet5_gives_the_mean_of_its_answers_at_every_place_of_images_of_odd_sizes(tmp_path: Path) -> None:
    api.compile_to_file(written(tmp_path, LENET), tmp_path / "net.dlc")
    x = np.random.default_rng(0).standard_normal((2, 1, 45, 53), np.float32)
    session = load_dense(tmp_path / "net.dlc", (45, 53))
    (image,) = session.inputs
    trained = load(tmp_path / "net.dlc")

    places = [trained(x[:, :, r : r + 32, c : c + 32].copy()) for r in range(0, 13, 4) for c in range(0, 21, 4)]

    assert image.shape == (-1, 1, 45, 53)
    np.testing.assert_allclose(session(x), np.mean(places, axis=0), rtol=1e-4, atol=1e-5)


def test_a_network_trained_on_digits_is_evaluated_densely(tmp_path: Path) -> None:
    report = api.train(written(tmp_path, TRAINED), out=tmp_path / "run")
    found = evaluate(report.artifact)

    assert found.test_error == pytest.approx(report.test_error)
    assert found.test_error < 0.15
    assert 0 < evaluate(report.artifact, dense=(36, 34)).test_error < 0.5
    with pytest.raises(RuntimeFault, match=r"R0315.*larger than the 28x28"):
        evaluate(report.artifact, dense=(28, 28))


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ("flatten -> f: linear(6) -> n: layer_norm -> linear(3)", "`n` .layer_norm."),
        ("flatten -> linear(84) -> r: rbf", "`r` .rbf."),
        ("flatten -> b: batch_norm -> linear(3)", "`b` .batch_norm."),
    ],
)
def test_a_layer_that_takes_the_whole_image_is_named(tmp_path: Path, layers: str, named: str) -> None:
    network = (
        api.check(
            written(
                tmp_path, f"model Net {{\n input image: [1, 8, 8]\n image -> conv(2, 3) -> {layers} -> output y\n}}\n"
            )
        )
        .models["Net"]
        .network
    )

    with pytest.raises(DlcError, match=rf"E0867.*{named}"):
        fully_convolutional(network, (12, 12))
