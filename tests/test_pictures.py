"""A model classifies picture files as it does the test images that it was measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dlc
from dlc.api import train
from dlc.measuring import evaluate, run
from dlc.runtime.data.sources.mnist_mini import MnistMini

SPEC = """
model M {
    input image: [1, 20, 20]
    image -> flatten -> linear(10) -> output y
}
data digits {
    source mnist-mini
    resize 24
    normalize per_pixel
    augment crop(20) -> rotate(5deg)
}
train T {
    model M
    data digits
    loss cross_entropy
    optimizer sgd(lr=0.05)
    batch 50
    epochs 1
}
"""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "s.dlspec").write_text(SPEC)
    return train(folder / "s.dlspec", out=folder / "run").artifact


def test_the_error_on_png_files_is_the_error_on_the_test_part(artifact: Path, tmp_path: Path) -> None:
    test = MnistMini().load(None).test
    net = dlc.load(artifact)
    wrong = 0
    for number in range(0, 1000, 10):
        path = tmp_path / f"{number}.png"
        Image.fromarray(test.images[number, 0]).save(path)
        wrong += run(artifact, path, top=1)[0][0]["index"] != test.labels[number]
        assert np.array_equal(net.preprocess(path), net.preprocess(test.images[number]))
    arrays = np.concatenate([net.preprocess(image) for image in test.images])

    assert arrays.shape == (1000, 1, 20, 20)
    guesses = net(arrays).argmax(axis=1)
    assert (guesses[::10] != test.labels[::10]).sum() == wrong
    assert evaluate(artifact).test_error == pytest.approx((guesses != test.labels).mean())
    assert wrong < 30


def test_one_digit_is_the_same_in_every_kind_of_picture(artifact: Path, tmp_path: Path) -> None:
    net = dlc.load(artifact)
    digit = MnistMini().load(None).test.images[5, 0]
    grey = Image.fromarray(digit)
    want = net.preprocess(digit)
    palette = grey.convert("P")
    palette.putpalette([v for v in range(256) for _ in range(3)])
    sideways = grey.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me right by 90 degrees"
    variants = {
        "colour.png": grey.convert("RGB"), "opaque.png": grey.convert("RGBA"), "palette.png": palette,
        "deep.png": Image.fromarray(digit.astype(np.uint16) * 257), "grey.bmp": grey, "grey.tif": grey,
    }  # fmt: skip
    for name, picture in variants.items():
        picture.save(tmp_path / name)
        assert np.array_equal(net.preprocess(tmp_path / name), want), name
    sideways.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(net.preprocess(tmp_path / "turned.png"), want)
    see_through = grey.convert("RGBA")
    see_through.putalpha(0)
    see_through.save(tmp_path / "clear.png")
    assert np.array_equal(net.preprocess(tmp_path / "clear.png"), net.preprocess(np.zeros_like(digit)))


def test_a_photograph_in_colour_is_made_grey_and_brought_to_size(artifact: Path, tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.jpg", quality=95)
    found = dlc.load(artifact).preprocess(tmp_path / "photo.jpg")

    assert found.shape == (1, 1, 20, 20)
    assert len(run(artifact, tmp_path / "photo.jpg", top=3)[0]) == 3
