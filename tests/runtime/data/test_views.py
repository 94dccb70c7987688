import numpy as np
import pytest
import torch

from dlc.runtime.data.prepare import prepare
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.data.resize import Resize
from dlc.runtime.data.sources.base import Dataset, Split
from dlc.runtime.data.views import scored
from dlc.runtime.errors import RuntimeFault

R = np.random.default_rng(0)
IMAGES = R.integers(0, 256, (6, 3, 20, 24), np.uint8)
WEIGHTS = R.normal(0, 0.2, (3 * 12 * 16, 5)).astype(np.float32)


def scores(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def test_the_middle_of_an_image_is_seen():
    rule = Preprocessing(3, 20, 24, (0.0,) * 3, (1.0,) * 3, (12, 16))

    assert rule.window == (12, 16)
    assert rule.apply(IMAGES) == pytest.approx(IMAGES[:, :, 4:16, 4:20] / 255, abs=1e-6)
    assert np.array_equal(scored(scores, IMAGES, rule), scores(rule.apply(IMAGES)))


def test_ten_crops_are_torchvisions_and_their_probabilities_are_averaged():
    rule = Preprocessing(3, 20, 24, (0.0,) * 3, (1.0,) * 3, (12, 16), views="ten")
    tensor = torch.tensor(IMAGES / np.float32(255))
    # torchvision's ten_crop: four corners, the middle, and the same of the mirrored image.
    crops = []
    for image in (tensor, tensor.flip(3)):
        crops += [image[..., :12, :16], image[..., :12, -16:], image[..., -12:, :16], image[..., -12:, -16:]]
        crops += [image[..., 4:16, 4:20]]
    want = torch.stack([(c.reshape(6, -1) @ torch.tensor(WEIGHTS)).softmax(1) for c in crops]).mean(0).log()

    assert scored(scores, IMAGES, rule) == pytest.approx(want.numpy(), abs=1e-5)


def test_a_size_is_stretched_to_or_covered():
    wide = np.zeros((1, 1, 10, 30), np.uint8)
    wide[..., 10:20] = 200

    assert (Resize(10, 10, "crop")(wide) == 200).all()
    assert (Resize(10, 10)(wide) == 200).mean() < 0.5
    assert Resize(7, 5, "crop")(IMAGES).shape == (6, 3, 7, 5)
    assert np.array_equal(Resize(20, 20, "crop")(IMAGES), IMAGES[..., 2:22])


def test_augmentation_that_makes_images_smaller_sets_the_window():
    data = Dataset(
        Split(IMAGES, np.arange(6, dtype=np.int32) % 2), Split(IMAGES, np.arange(6, dtype=np.int32) % 2), ("a", "b")
    )
    prepared = prepare(data, size=Resize(16, 16), window=(12, 12), normalize="per_pixel", views="ten")

    assert prepared.preprocessing.window == (12, 12) and len(prepared.preprocessing.mean) == 3 * 12 * 12
    assert prepared.train.images.shape == (6, 3, 16, 16)
    assert prepared.preprocessing.mean == pytest.approx(
        (prepared.train.images[:, :, 2:14, 2:14] / 255).mean(axis=0).ravel(), abs=1e-9
    )
    assert prepared.preprocessing.apply(IMAGES).shape == (6, 3, 12, 12)
    with pytest.raises(RuntimeFault, match=r"R0315.*ten crops need images larger than the 16x16"):
        prepare(data, size=Resize(16, 16), views="ten")
    with pytest.raises(RuntimeFault, match=r"R0320.*makes images of 18x18 out of images of 16x16"):
        prepare(data, size=Resize(16, 16), window=(18, 18))
