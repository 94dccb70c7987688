import colorsys
from functools import partial

import cv2
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from PIL import Image, ImageEnhance

from dlc.compiler.catalog import catalog
from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.affine import Field, coefficients, warp
from dlc.runtime.data.augment import Augmenter, size_after
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.preprocessing import Normalizer
from dlc.runtime.data.transforms.base import Geometric, Mixing, Recolouring, Transform
from dlc.runtime.data.transforms.color_jitter import ColorJitter, recoloured
from dlc.runtime.data.transforms.crop import Crop
from dlc.runtime.data.transforms.cutmix import Cutmix
from dlc.runtime.data.transforms.cutout import Cutout
from dlc.runtime.data.transforms.elastic import Elastic
from dlc.runtime.data.transforms.flip import Flip
from dlc.runtime.data.transforms.mixup import Mixup, beta
from dlc.runtime.data.transforms.pca_noise import PcaNoise, covariance
from dlc.runtime.data.transforms.random_resized_crop import RandomResizedCrop
from dlc.runtime.data.transforms.rotate import Rotate
from dlc.runtime.data.transforms.scale import Scale
from dlc.runtime.data.transforms.shear import Shear
from dlc.runtime.data.transforms.shift import Shift
from dlc.runtime.errors import RuntimeFault

R = np.random.default_rng(0)
IMAGES = R.random((200, 3, 9, 9), np.float32) * 0.9 + 0.1
LABELS = np.arange(200, dtype=np.int32)
MOVES = [
    Shift(2), Rotate(30.0), Flip(), Flip("vertical"), Crop(9, pad=2), Crop(7), Crop(6, shorter=(6, 14)), Scale(0.8, 1.2),
    Shear(20.0), Elastic(3.0, 2.0), RandomResizedCrop(8),
]  # fmt: skip
COLOURS = [ColorJitter(0.4, 0.4, 0.4, 0.1), PcaNoise(), Cutout(4), Cutout(3, p=0.5)]
ALL = [*MOVES, *COLOURS, Mixup(), Cutmix()]


def augmenter(*transforms, images=IMAGES, seed=0):
    one, zero = np.ones((images.shape[1], 1, 1), np.float32), np.zeros((images.shape[1], 1, 1), np.float32)
    return Augmenter(transforms, images, Normalizer(one, zero), batch=len(images), seed=seed)


def begun(made, samples, epoch):
    return made.begin(samples.astype(np.int32), samples, epoch, made.places(samples, epoch))


def apply(*transforms, images=IMAGES, epoch=0, seed=0, samples=None):
    made = augmenter(*transforms, images=images, seed=seed)
    chosen = np.arange(len(images)) if samples is None else samples
    return made.finish(begun(made, chosen, epoch))[0]


def sampled(images, transform, draws):
    size = images.shape[2:]
    one = np.ones((images.shape[1], 1, 1), np.float32)
    places = transform.places(draws, size)
    found = coefficients(places.matrix, places.translation, size, size)
    return warp(images, np.arange(len(images)), found, one, 0 * one, transform.field(draws, size), size=size)


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_a_transform_follows_seed_and_epoch_and_leaves_its_source_alone(transform):
    before = IMAGES.copy()
    found = apply(transform)

    assert found.shape == (200, 3, *size_after([transform], (9, 9))) and found.dtype == np.float32
    assert np.array_equal(found, apply(transform))
    assert not np.array_equal(found, apply(transform, epoch=1))
    assert not np.array_equal(found, apply(transform, seed=1))
    assert np.array_equal(IMAGES, before)


@pytest.mark.parametrize("transform", [*MOVES, *COLOURS], ids=repr)
def test_an_image_is_changed_in_the_same_way_in_any_batch(transform):
    whole = apply(transform)
    chosen = np.array([150, 3, 77])

    assert np.array_equal(apply(transform, samples=chosen), whole[chosen])


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_bytes_and_floats_are_changed_alike(transform):
    bytes_ = (IMAGES * 255).astype(np.uint8)

    assert apply(transform, images=bytes_) / 255 == pytest.approx(
        apply(transform, images=bytes_ / np.float32(255)), abs=1e-4
    )


@pytest.mark.parametrize(
    "transform",
    [
        Shift(0), Rotate(0.0), Flip(p=0.0), Crop(9), Crop(9, shorter=(9, 9)), Scale(1.0, 1.0), Shear(0.0), Elastic(0.0),
        ColorJitter(), PcaNoise(0.0), Cutout(3, p=0.0), RandomResizedCrop(9, (1.0, 1.0), (1.0, 1.0)),
    ],
    ids=repr,
)  # fmt: skip
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


def test_crop_takes_every_window_of_the_padded_image():
    found = apply(Crop(8, pad=1))
    framed = np.pad(IMAGES, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(framed, (8, 8), axis=(2, 3))
    same = (windows == found[:, :, None, None]).all(axis=(1, 4, 5))

    assert (same.sum(axis=(1, 2)) == 1).all()
    assert same.any(axis=0).all()


def test_scale_jitter_crops_from_opencvs_enlarged_image():
    image = R.random((1, 1, 40, 40), np.float32)
    large = cv2.resize(image[0, 0], (60, 60), interpolation=cv2.INTER_LINEAR)
    found = apply(Crop(30, shorter=(60, 60)), images=image)[0, 0]
    windows = np.lib.stride_tricks.sliding_window_view(large, (30, 30))
    distance = np.abs(windows - found)[:, :, 1:-1, 1:-1].max(axis=(2, 3))

    assert distance.min() < 1e-4


def test_flip_mirrors_about_half_of_the_images():
    found = apply(Flip())
    mirrored = [np.array_equal(a, b[..., ::-1]) for a, b in zip(found, IMAGES, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(found, IMAGES, strict=True)]

    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 70 < sum(mirrored) < 130
    assert np.array_equal(apply(Flip("vertical", p=1.0)), IMAGES[..., ::-1, :])


class Highest(Draws):
    def uniform(self, low, high, count=1):
        return np.full((len(self), count), float(high))


def test_rotate_and_shear_are_opencvs_warp():
    image = R.random((1, 1, 21, 21), np.float32)
    draws = Highest(2, 0, 0, np.arange(1))
    turned = sampled(image, Rotate(30.0), draws)[0, 0]
    slanted = sampled(image, Shear(30.0), draws)[0, 0]
    slant = np.array([[1, np.tan(np.pi / 6), -10 * np.tan(np.pi / 6)], [0, 1, 0]])
    inverse = partial(cv2.warpAffine, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=0)

    matrices = [cv2.getRotationMatrix2D((10, 10), angle, 1.0) for angle in (30, -30)]
    assert min(np.abs(inverse(image[0, 0], m, (21, 21)) - turned).max() for m in matrices) < 0.01
    assert np.abs(inverse(image[0, 0], slant, (21, 21)) - slanted).max() < 0.01


def test_scale_above_1_enlarges():
    spot = np.zeros((1, 1, 21, 21), np.float32)
    spot[0, 0, 8:13, 8:13] = 1

    assert apply(Scale(2.0, 2.0), images=spot).sum() == pytest.approx(100, rel=0.1)
    assert 4 <= apply(Scale(0.5, 0.5), images=spot).sum() <= 9


def test_warp_is_torchs_grid_sample():
    n, height, width = 5, 20, 25
    images = R.random((n, 3, height, width), np.float32)
    matrix = np.eye(2) + R.normal(0, 0.3, (n, 2, 2))
    translation = R.normal(0, 4, (n, 2))
    factors = [R.normal(0, 0.5, s).astype(np.float32) for s in ((n, 2, 4, 5), (height, 4), (width, 5))]
    field = Field(*factors)
    moved = np.einsum("npab,ra,cb->nprc", *factors)
    i, j = np.mgrid[:height, :width]
    places = np.stack([i - (height - 1) / 2, j - (width - 1) / 2]).reshape(2, -1)
    source = matrix @ (places + moved.reshape(n, 2, -1)) + translation[:, :, None]
    grid = np.stack([source[:, 1] / (width / 2), source[:, 0] / (height / 2)], -1).reshape(n, height, width, 2)
    want = torch.nn.functional.grid_sample(
        torch.tensor(images), torch.tensor(grid).float(), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    found = coefficients(matrix, translation, (height, width), (height, width))
    scale, offset = np.full((3, 1, 1), 2, np.float32), np.full((3, 1, 1), -1, np.float32)

    assert warp(images, np.arange(len(images)), found, scale, offset, field, size=(height, width)) == pytest.approx(
        want.numpy() * 2 - 1, abs=2e-4
    )


def test_moves_in_a_row_sample_once_and_equal_the_moves_one_after_the_other():
    smooth = scipy.ndimage.gaussian_filter(R.random((50, 1, 32, 32)), (0, 0, 3, 3)).astype(np.float32)
    smooth *= np.outer(np.hanning(32), np.hanning(32)).astype(np.float32)
    chain = (Rotate(20.0), Shift(2), Scale(0.9, 1.1), Elastic(10.0, 4.0))
    made = augmenter(*chain, images=smooth)
    at_once = apply(*chain, images=smooth)
    one_by_one = smooth
    for stream, transform in enumerate(chain, 2):
        one_by_one = sampled(one_by_one, transform, Draws(stream, 0, 0, np.arange(50)))

    assert len(made.steps) == 1
    assert np.abs(at_once - one_by_one).max() < 0.04 * smooth.max()
    assert len(augmenter(Elastic(), Rotate(5.0), images=smooth).steps) == 2


def test_elastic_fields_have_the_variances_of_smoothed_noise():
    size, sigma = (20, 28), 3.0
    found = Elastic(1.0, sigma).field(Draws(2, 0, 0, np.arange(4000)), size).values().astype(np.float64)
    point = np.zeros(size)
    point[6, 9] = 1
    spread = scipy.ndimage.gaussian_filter(point, sigma, mode="constant", truncate=4.0)
    # Noise of variance 1/3, smoothed twice: the covariance of the field at one place with all others.
    want = scipy.ndimage.gaussian_filter(spread, sigma, mode="constant", truncate=4.0) / 3
    covariances = (found[:, :, 6:7, 9:10] * found).mean(axis=0)

    assert np.abs(covariances - want).max() < 0.1 * want.max()
    assert abs((found[:, 0] * found[:, 1]).mean()) < 0.02 * want.max()


def test_brightness_contrast_and_saturation_are_pillows():
    bytes_ = R.integers(80, 180, (12, 12, 3), np.uint8)
    picture = Image.fromarray(bytes_)
    images = bytes_.transpose(2, 0, 1)[None].astype(np.float32)
    one, still = np.ones((1, 1, 1)), np.zeros(1)
    cases = (
        (recoloured(images, 1.2 * one, one, one, still, 255), ImageEnhance.Brightness(picture).enhance(1.2)),
        (recoloured(images, one, 0.6 * one, one, still, 255), ImageEnhance.Contrast(picture).enhance(0.6)),
        (recoloured(images, one, one, 1.4 * one, still, 255), ImageEnhance.Color(picture).enhance(1.4)),
    )

    for found, want in cases:
        assert found[0].transpose(1, 2, 0) == pytest.approx(np.asarray(want, np.float64), abs=1.5)


def test_hue_turns_colours_in_the_plane_of_yiq():
    images = np.array([0.5, 0.4, 0.3], np.float32).reshape(1, 3, 1, 1)
    one = np.ones((1, 1, 1))
    found = recoloured(images, one, one, one, np.array([0.7]), 1.0).ravel()
    y, i, q = colorsys.rgb_to_yiq(*images.ravel().tolist())
    turned = complex(i, q) * np.exp(0.7j)

    assert found == pytest.approx(colorsys.yiq_to_rgb(y, turned.real, turned.imag), abs=5e-3)


def test_grey_images_take_brightness_and_contrast_but_no_colours():
    grey = IMAGES[:, :1]

    assert apply(ColorJitter(0.3, 0.3), images=grey).shape == grey.shape
    for transform in (ColorJitter(hue=0.1), PcaNoise()):
        with pytest.raises(RuntimeFault, match="R0321"):
            apply(transform, images=grey)


def test_colours_stay_between_black_and_white():
    found = apply(ColorJitter(0.9, 0.9, 0.9, 0.5))

    assert found.min() >= 0 and found.max() <= 1 and (found == 1).any()


def test_pca_noise_has_the_covariance_of_the_training_colours_squared():
    mixing = np.array([[0.2, 0.1, 0.0], [0.1, 0.1, 0.05], [0.0, 0.05, 0.02]])
    colours = np.clip(0.5 + R.normal(0, 0.3, (300, 9, 9, 3)) @ mixing, 0, 1).transpose(0, 3, 1, 2).astype(np.float32)
    assert covariance(colours) == pytest.approx(np.cov(colours.transpose(1, 0, 2, 3).reshape(3, -1)), abs=1e-6)
    added = np.concatenate(
        [apply(PcaNoise(0.5), images=colours, epoch=e)[:, :, 0, 0] - colours[:, :, 0, 0] for e in range(20)]
    )
    matrix = covariance(colours)

    # [p1 p2 p3] (a l) with a of variance s² has the covariance s² P L² Pᵀ.
    want = 0.25 * matrix @ matrix
    assert np.cov(added.T) == pytest.approx(want, abs=0.1 * want.max())


def test_cutout_covers_a_square_with_the_mean_colour():
    found = apply(Cutout(3))
    covered = (found != IMAGES).any(axis=1)

    assert covered.sum(axis=(1, 2)).max() == 9 and covered.sum(axis=(1, 2)).min() == 4
    assert found.transpose(0, 2, 3, 1)[covered] == pytest.approx(
        np.broadcast_to(IMAGES.mean(axis=(0, 2, 3)), (covered.sum(), 3)), abs=1e-5
    )


def test_the_numbers_of_mixup_are_betas():
    uniform = np.linspace(0.001, 0.999, 500)

    for alpha in (0.1, 0.2, 0.4, 1.0, 2.5, 8.0):
        assert beta(uniform, alpha) == pytest.approx(scipy.stats.beta.ppf(uniform, alpha, alpha), abs=2e-4)


def test_mixup_and_cutmix_say_what_is_in_an_image():
    for transform in (Mixup(1.0), Cutmix()):
        made = augmenter(transform)
        images, mix = made.finish(begun(made, LABELS, 3))
        assert mix is not None and mix.share.min() >= 0 and mix.share.max() <= 1
        assert mix.labels.tolist() == [*range(1, 200), 0]
        others, share = IMAGES[mix.labels], mix.share[:, None, None, None]
        if isinstance(transform, Mixup):
            assert images == pytest.approx(share * IMAGES + (1 - share) * others, abs=1e-6)
        else:
            own = (images == IMAGES).all(axis=1)
            assert own.mean(axis=(1, 2)) == pytest.approx(mix.share, abs=1e-6)
            assert np.array_equal(np.where(own[:, None], IMAGES, others), images)


def test_what_mixes_stands_at_the_end():
    with pytest.raises(RuntimeFault, match=r"R0322.*\n.*write it at the end"):
        apply(Mixup(), Flip())


def test_a_crop_larger_than_the_images_is_refused():
    with pytest.raises(RuntimeFault, match=r"crop\(10\) does not fit into images of 9x9"):
        apply(Crop(10))
    with pytest.raises(RuntimeFault, match="images whose shorter side is 8"):
        apply(Crop(9, shorter=(8, 12)))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Shift(-1), "pixels"), (lambda: Crop(0), "size"), (lambda: Crop(8, -1), "pad"),
        (lambda: Crop(8, shorter=(9, 8)), "shorter"), (lambda: Flip(p=1.5), "p"), (lambda: Rotate(-1.0), "angle"),
        (lambda: Rotate(float("nan")), "angle"), (lambda: Scale(0.0, 1.0), "low"), (lambda: Scale(1.2, 1.0), "high"),
        (lambda: Shear(90.0), "angle"), (lambda: Elastic(-1.0), "alpha"), (lambda: Elastic(sigma=0.0), "sigma"),
        (lambda: RandomResizedCrop(0), "size"), (lambda: RandomResizedCrop(8, (0.0, 1.0)), "area"),
        (lambda: RandomResizedCrop(8, ratio=(2.0, 1.0)), "ratio"), (lambda: ColorJitter(-1.0), "brightness"),
        (lambda: ColorJitter(hue=0.6), "hue"), (lambda: PcaNoise(-1.0), "std"), (lambda: Cutout(0), "size"),
        (lambda: Cutout(1, 2.0), "p"), (lambda: Mixup(0.0), "alpha"), (lambda: Cutmix(-1.0), "alpha"),
    ],
)  # fmt: skip
def test_an_argument_without_sense_is_refused_by_name(make, field):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert caught.value.field == field


def test_every_transform_is_in_the_catalog_and_tested_here():
    found = catalog("dlc.runtime.data.transforms", Transform)

    assert set(found) == {t.keyword for t in ALL}
    assert all(issubclass(t, (Geometric, Recolouring, Mixing)) for t in found.values())
