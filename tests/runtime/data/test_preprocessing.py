import numpy as np
import pytest
import torch

from dlc.runtime.data.prepare import prepare
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.data.resize import Resize, resize
from dlc.runtime.data.sources.base import Dataset, Split
from dlc.runtime.data.split import stratified
from dlc.runtime.data.statistics import statistics
from dlc.runtime.errors import RuntimeFault

R = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(32, 32), (14, 50), (7, 7), (1, 1), (28, 31), (29, 3)])
def test_resize_is_torchs_antialiased_bilinear(size):
    images = R.integers(0, 256, (3, 2, 28, 31), np.uint8)
    want = torch.nn.functional.interpolate(torch.tensor(images).float(), size, mode="bilinear", antialias=True).numpy()

    assert resize(images.astype(np.float32), *size) == pytest.approx(want, abs=1e-3)
    found = resize(images, *size)
    assert found.dtype == np.uint8
    assert np.abs(found - want).max() <= 0.501


def test_an_image_resized_alone_is_the_one_resized_in_a_batch():
    images = R.integers(0, 256, (600, 1, 28, 28), np.uint8)

    assert np.array_equal(resize(images, 32, 32)[577:578], resize(images[577:578], 32, 32))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_statistics_are_numpys_with_n_minus_1(kind):
    images = R.integers(0, 256, (2000, 3, 5, 4)).astype(kind)
    scale = 255 if kind == np.uint8 else 1
    mean, std = statistics(images)

    assert mean == pytest.approx(images.mean((0, 2, 3), dtype=np.float64) / scale, rel=1e-9)
    assert std == pytest.approx(images.astype(np.float64).std((0, 2, 3), ddof=1) / scale, rel=1e-9)
    mean, std = statistics(images, per_pixel=True)
    assert mean == pytest.approx(images.mean(0, dtype=np.float64).ravel() / scale, rel=1e-9)
    assert std == pytest.approx(images.astype(np.float64).std(0, ddof=1).ravel() / scale, rel=1e-9)


def test_a_constant_channel_has_the_deviation_1():
    assert statistics(np.full((4, 1, 2, 2), 51, np.uint8)) == ((0.2,), (1.0,))


@pytest.mark.parametrize("per_pixel", [False, True])
def test_apply_resizes_scales_and_normalizes(per_pixel):
    images = R.integers(0, 256, (50, 3, 8, 8), np.uint8)
    mean, std = statistics(images, per_pixel=per_pixel)
    preprocessing = Preprocessing(3, 8, 8, mean, std)
    found = preprocessing.apply(images)

    assert found.dtype == np.float32
    assert found.mean() == pytest.approx(0, abs=1e-5) and found.std() == pytest.approx(1, abs=0.02)
    assert preprocessing.apply(images.astype(np.float32) / 255) == pytest.approx(found, abs=1e-5)
    assert preprocessing.apply(R.random((2, 3, 20, 11))).shape == (2, 3, 8, 8)


def test_apply_takes_single_images_and_channels_last():
    grey = Preprocessing(1, 4, 4, (0.0,), (1.0,))
    colour = Preprocessing(3, 4, 4, (0.0,) * 3, (1.0,) * 3)
    image = R.integers(0, 256, (3, 4, 5), np.uint8)

    for shape in ((6, 7), (1, 6, 7), (6, 7, 1), (1, 1, 6, 7), (1, 6, 7, 1)):
        assert grey.apply(np.zeros(shape, np.uint8)).shape == (1, 1, 4, 4)
    assert grey.apply(np.zeros((9, 6, 7), np.uint8)).shape == (9, 1, 4, 4)
    assert np.array_equal(colour.apply(image), colour.apply(image.transpose(1, 2, 0)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4), np.uint8), "expected images of 3 channels"),
        (np.zeros((2, 2, 2, 2, 2), np.uint8), r"shape \[2, 2, 2, 2, 2\]"),
        (np.zeros((3, 4, 4), np.int64), "holds int64"),
        (np.array(["a"]), "holds <U1"),
        (np.zeros((3, 0, 4), np.uint8), "has no pixels"),
    ],
)
def test_what_is_not_an_image_is_refused(array, message):
    with pytest.raises(RuntimeFault, match=message):
        Preprocessing(3, 4, 4, (0.0,) * 3, (1.0,) * 3).apply(array)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_colour_image_is_not_taken_for_many_grey_ones(channels):
    grey = Preprocessing(1, 4, 4, (0.0,), (1.0,))

    with pytest.raises(RuntimeFault, match=r"R0302.*one colour image or 28 narrow grey ones"):
        grey.apply(np.zeros((28, 28, channels), np.uint8))
    assert grey.apply(np.zeros((28, 1, 28, channels), np.uint8)).shape == (28, 1, 4, 4)


@pytest.mark.parametrize("fraction", [0.1, 0.29, 0.5, 1 / 3])
def test_a_split_takes_its_share_of_every_class(fraction):
    labels = R.integers(0, 7, 1234)
    keep, chosen = stratified(labels, fraction)

    assert len(chosen) == round(1234 * fraction)
    assert sorted([*keep, *chosen]) == list(range(1234))
    share = np.bincount(labels[chosen], minlength=7) - np.bincount(labels, minlength=7) * fraction
    assert np.abs(share).max() <= 1
    assert np.array_equal(chosen, stratified(labels, fraction)[1])


def blobs(count=200, dtype=np.uint8):
    images = R.integers(0, 256, (count, 1, 6, 6)).astype(dtype)
    split = Split(images, (np.arange(count) % 4).astype(np.int32))
    return Dataset(split, split, tuple("abcd"))


def test_normalization_looks_at_the_training_part_alone():
    data = blobs()
    prepared = prepare(data, validate=0.25, size=Resize(8, 7), normalize="per_channel")

    assert (len(prepared.train.labels), len(prepared.validation.labels), len(prepared.test.labels)) == (150, 50, 200)
    assert prepared.train.images.shape[1:] == prepared.test.images.shape[1:] == (1, 8, 7)
    assert (prepared.preprocessing.mean, prepared.preprocessing.std) == statistics(prepared.train.images)
    assert prepared.preprocessing.mean != statistics(resize(data.train.images, 8, 7))[0]


def test_a_test_image_goes_the_same_way_in_training_and_in_use():
    data = blobs()
    prepared = prepare(data, size=Resize(9, 9), normalize="per_pixel")

    assert np.array_equal(
        prepared.preprocessing.normalize(prepared.test.images), prepared.preprocessing.apply(data.test.images)
    )


def test_the_fingerprint_tells_data_apart():
    data = blobs()
    other = Dataset(Split(data.train.images.copy(), data.train.labels), data.test, data.classes)
    other.train.images[7, 0, 0, 0] ^= 1

    assert prepare(data).fingerprint == prepare(data).fingerprint
    assert len({prepare(data).fingerprint, prepare(other).fingerprint, prepare(data, validate=0.5).fingerprint}) == 3


def test_without_normalization_bytes_become_0_to_1():
    prepared = prepare(blobs())

    assert prepared.preprocessing.normalize(np.full((1, 1, 6, 6), 255, np.uint8)).max() == pytest.approx(1)
    assert prepared.validation is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validate": 1.0}, "above 0 % and below 100 %"),
        ({"validate": -0.1}, "above 0 %"),
        ({"validate": 0.001}, "leaves one part empty"),
        ({"normalize": "per_image"}, "per_channel, per_pixel"),
        ({"normalize": ((0.5, 0.5), (1.0, 1.0))}, "2 means and 2 deviations for images of 1 channel"),
        ({"normalize": ((0.5,), (0.0,))}, "positive deviations"),
    ],
)
def test_settings_that_do_not_suit_the_data_are_refused(settings, message):
    with pytest.raises(RuntimeFault, match=message):
        prepare(blobs(), **settings)
