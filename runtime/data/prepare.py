"""From a source's samples to what training and evaluation read: resized, split, with their normalisation."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from dlc.runtime.arrays import aligned
from dlc.runtime.data.dense import Dense
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.data.resize import Resize, middle
from dlc.runtime.data.sources.base import Dataset, Split
from dlc.runtime.data.split import stratified
from dlc.runtime.data.statistics import statistics
from dlc.runtime.errors import RuntimeFault

Normalization = str | tuple[Sequence[float], Sequence[float]] | None
"""What `normalize` holds: "per_channel", "per_pixel", None, or (mean, std) with one number per channel."""


@dataclass(frozen=True)
class Prepared:
    """The three parts, resized but not normalised, and the preprocessing that a network trained on them needs.

    `validation` is None where nothing was split off. `fingerprint` tells one set of samples from another; `notes` is what the
    user should be told.
    """

    train: Split
    validation: Split | None
    test: Split
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    fingerprint: str
    notes: tuple[str, ...] = ()


def prepare(
    dataset: Dataset,
    *,
    validate: float = 0.0,
    size: Resize | None = None,
    normalize: Normalization = None,
    window: tuple[int, int] | None = None,
    views: Literal["one", "ten"] = "one",
    dense: Dense | None = None,
    larger: Dataset | None = None,
) -> Prepared:
    """Brings all images to one size, splits the fraction `validate` off the training part, stratified and
    always the same, and takes mean and deviation from what is left of it.

    `window` is the size of the images that augmentation makes, where it is another: the network then sees the middle of
    images outside of training, or with ten `views` its corners too, and means per pixel are those of the middle. With `dense`,
    validation and test images have its size, made of `larger`, the same samples in more detail, where that is given. Raises
    RuntimeFault where the fraction leaves a part empty, `normalize` does not suit the images, or the window is larger than
    they are.
    """
    size = size or Resize(*dataset.train.images.shape[2:])
    height, width = size.height, size.width
    train, test = (Split(size(split.images), split.labels) for split in (dataset.train, dataset.test))
    validation = None
    if validate:
        train, validation = _divide(train, validate)
    crop = window if window != (height, width) else None
    if crop is not None and (crop[0] > height or crop[1] > width):
        raise RuntimeFault(
            "R0320",
            f"augmentation makes images of {crop[0]}x{crop[1]} out of images of {height}x{width}",
            help=f"write `resize {max(crop)}`, or more, in the data section",
        )
    if views == "ten" and crop is None:
        raise RuntimeFault(
            "R0315",
            f"ten crops need images larger than the {height}x{width} that the network sees",
            help="write a larger `resize`, and crop(…) in `augment`",
        )
    seen = train.images if crop is None else middle(train.images, crop)
    mean, std = _normalization(seen if normalize == "per_pixel" else train.images, normalize)
    preprocessing = Preprocessing(train.images.shape[1], height, width, mean, std, crop, size.fit, views)
    if dense is not None:
        preprocessing = _densely(preprocessing, dense)
        whole = Resize(*dense.pair, size.fit) if dense.size is not None else size
        shown = larger or dataset
        test = Split(whole(shown.test.images), shown.test.labels)
        if validation is not None:
            _, part = _divide(shown.train, validate)
            validation = Split(whole(part.images), part.labels)
    train = Split(aligned(train.images), train.labels)  # a kernel samples them where they lie
    fingerprint = _fingerprint((train, test) if validation is None else (train, validation, test))
    return Prepared(train, validation, test, dataset.classes, preprocessing, fingerprint, dataset.notes)


def _densely(preprocessing: Preprocessing, dense: Dense) -> Preprocessing:
    """With the size of images in dense evaluation. Raises RuntimeFault where they are not larger than what the network sees."""
    size = dense.pair if dense.size is not None else (preprocessing.height, preprocessing.width)
    height, width = preprocessing.window
    if size[0] < height or size[1] < width or size == (height, width):
        raise RuntimeFault(
            "R0315",
            f"dense evaluation needs images larger than the {height}x{width} that the network sees, not {size[0]}x{size[1]}",
            help="write `evaluate dense(size=…)`, or a larger `resize` and crop(…) in `augment`",
        )
    preprocessing.resized(*size)  # whether normalisation allows it
    return msgspec.structs.replace(preprocessing, dense=size, mirrored=dense.flip)


def _divide(train: Split, fraction: float) -> tuple[Split, Split]:
    if not 0 < fraction < 1:
        raise RuntimeFault(
            "R0315", f"`validate` is a part of the training samples, above 0 % and below 100 %, not {fraction:.0%}"
        )
    keep, chosen = stratified(train.labels, fraction)
    if len(keep) == 0 or len(chosen) == 0:
        count = len(train.labels)
        raise RuntimeFault("R0312", f"`validate {fraction:.3%}` of {count} training samples leaves one part empty")
    return Split(train.images[keep], train.labels[keep]), Split(train.images[chosen], train.labels[chosen])


def _normalization(images: np.ndarray, normalize: Normalization) -> tuple[tuple[float, ...], tuple[float, ...]]:
    channels = images.shape[1]
    if normalize is None:
        return (0.0,) * channels, (1.0,) * channels
    if isinstance(normalize, str):
        if normalize not in ("per_channel", "per_pixel"):
            raise RuntimeFault("R0315", f"`normalize` is per_channel, per_pixel, or mean=… and std=…, not {normalize}")
        return statistics(images, per_pixel=normalize == "per_pixel")
    mean, std = (tuple(float(x) for x in numbers) for numbers in normalize)
    if len(mean) != channels or len(std) != channels:
        raise RuntimeFault(
            "R0315",
            f"`normalize` has {len(mean)} means and {len(std)} deviations for images of {channels} channel{'s' if channels > 1 else ''}",
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and min(std) > 0):
        raise RuntimeFault("R0315", f"`normalize` needs finite means and positive deviations, not std={list(std)}")
    return mean, std


def _fingerprint(parts: Sequence[Split]) -> str:
    check = 0
    for split in parts:
        check = zlib.crc32(np.ascontiguousarray(split.images).data, check)
        check = zlib.crc32(np.ascontiguousarray(split.labels).data, check)
    return f"{'+'.join(str(len(split.labels)) for split in parts)}:{check:08x}"
