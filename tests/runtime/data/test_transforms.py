import numpy as np
import pytest
import torch

from dlc.compiler.catalog import catalog
from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.affine import moved
from dlc.runtime.data.streams import generator
from dlc.runtime.data.transforms.base import Transform
from dlc.runtime.data.transforms.crop import Crop
from dlc.runtime.data.transforms.flip import Flip
from dlc.runtime.data.transforms.rotate import Rotate
from dlc.runtime.data.transforms.scale import Scale
from dlc.runtime.data.transforms.shift import Shift
from dlc.runtime.errors import RuntimeFault

R = np.random.default_rng(0)
IMAGES = R.random((200, 2, 9, 9), np.float32) + 0.1
ALL = [Shift(2), Rotate(30.0), Flip(), Flip("vertical"), Crop(9, pad=2), Scale(0.8, 1.2)]


def apply(transform, images=IMAGES, step=0):
    return transform.apply(images, generator(2, 0, 0, step))


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_a_transform_keeps_the_shape_and_follows_its_generator(transform):
    before = IMAGES.copy()
    found = apply(transform)

    assert found.shape == IMAGES.shape and found.dtype == np.float32
    assert np.array_equal(found, apply(transform))
    assert not np.array_equal(found, apply(transform, step=1))
    assert np.array_equal(IMAGES, before)


@pytest.mark.parametrize("transform", [Shift(0), Rotate(0.0), Flip(p=0.0), Crop(9), Scale(1.0, 1.0)], ids=repr)
def test_a_transform_of_nothing_changes_nothing(transform):
    assert apply(transform) == pytest.approx(IMAGES, abs=1e-5)


def test_shift_moves_by_whole_pixels_in_all_directions():
    found = apply(Shift(1))
    moves = set()
    for before, after in zip(IMAGES, found, strict=True):
        framed = np.pad(before, ((0, 0), (1, 1), (1, 1)))
        matches = [(i, j) for i in range(3) for j in range(3) if np.array_equal(after, framed[:, i : i + 9, j : j + 9])]
        assert len(matches) == 1
        moves.add(matches[0])
    assert len(moves) == 9


def test_flip_mirrors_about_half_of_the_images():
    found = apply(Flip())
    mirrored = [np.array_equal(a, b[..., ::-1]) for a, b in zip(found, IMAGES, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(found, IMAGES, strict=True)]

    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 70 < sum(mirrored) < 130
    assert np.array_equal(apply(Flip("vertical", p=1.0)), IMAGES[..., ::-1, :])


def test_a_right_angle_is_a_quarter_turn():
    class Half:
        def uniform(self, low, high, size):
            return np.full(size, high)

    found = Rotate(90.0).apply(IMAGES, Half())
    assert found == pytest.approx(np.rot90(IMAGES, axes=(3, 2)), abs=1e-4) or found == pytest.approx(
        np.rot90(IMAGES, axes=(2, 3)), abs=1e-4
    )


def test_scale_above_1_enlarges():
    spot = np.zeros((1, 1, 21, 21), np.float32)
    spot[0, 0, 8:13, 8:13] = 1

    assert apply(Scale(2.0, 2.0), spot).sum() == pytest.approx(100, rel=0.1)
    assert 4 <= apply(Scale(0.5, 0.5), spot).sum() <= 9


def test_warp_is_torchs_grid_sample():
    n, height, width = 5, 20, 25
    images = R.random((n, 3, height, width), np.float32)
    matrix = np.eye(2) + R.normal(0, 0.3, (n, 2, 2))
    translation = R.normal(0, 4, (n, 2))
    i, j = np.mgrid[:height, :width]
    places = np.stack([i - (height - 1) / 2, j - (width - 1) / 2]).reshape(2, -1)
    source = matrix @ places + translation[:, :, None]
    grid = np.stack([source[:, 1] / (width / 2), source[:, 0] / (height / 2)], -1).reshape(n, height, width, 2)
    want = torch.nn.functional.grid_sample(
        torch.tensor(images), torch.tensor(grid).float(), mode="bilinear", padding_mode="zeros", align_corners=False
    )

    assert moved(images, matrix, translation) == pytest.approx(want.numpy(), abs=1e-4)


def test_a_crop_of_another_size_is_refused():
    with pytest.raises(RuntimeFault, match=r"crop\(8\) would turn images of 9x9 into 8x8"):
        apply(Crop(8))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Shift(-1), "pixels"), (lambda: Crop(0), "size"), (lambda: Crop(8, -1), "pad"),
        (lambda: Flip(p=1.5), "p"), (lambda: Rotate(-1.0), "angle"), (lambda: Rotate(float("nan")), "angle"),
        (lambda: Scale(0.0, 1.0), "low"), (lambda: Scale(1.2, 1.0), "high"),
    ],
)  # fmt: skip
def test_an_argument_without_sense_is_refused_by_name(make, field):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert caught.value.field == field


def test_every_transform_is_in_the_catalog():
    assert set(catalog("dlc.runtime.data.transforms", Transform)) == {"crop", "flip", "rotate", "scale", "shift"}
