"""Checks that every data set passes before it is used, whatever its source."""

from __future__ import annotations

from dlc.runtime.data.sources.base import Dataset, Split
from dlc.runtime.deferred import np
from dlc.runtime.errors import RuntimeFault


def check_dataset(dataset: Dataset, origin: str) -> Dataset:
    """The data set itself, once its parts are found whole.

    Raises RuntimeFault, which names `origin` and the part, where counts differ, a part is empty, shapes or types are not
    images, labels are out of range, a class has no training sample, or a float image holds a NaN or an infinity.
    """
    for part, split in (("training", dataset.train), ("test", dataset.test)):
        check_split(split, len(dataset.classes), f"the {part} part of {origin}")
    if dataset.train.images.shape[1:] != dataset.test.images.shape[1:]:
        train, test = (list(split.images.shape[1:]) for split in (dataset.train, dataset.test))
        raise RuntimeFault("R0311", f"in {origin}, training images are {train} but test images are {test}")
    if dataset.train.images.dtype != dataset.test.images.dtype:
        raise RuntimeFault(
            "R0311",
            f"in {origin}, training images are {dataset.train.images.dtype} but test images are {dataset.test.images.dtype}",
        )
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    for index in np.flatnonzero(counts == 0)[:1]:
        name = dataset.classes[index]
        called = f"class {index}" if name == str(index) else f"class {index} ({name})"
        raise RuntimeFault("R0312", f"{called} has no training sample in {origin}")
    return dataset


def check_split(split: Split, classes: int, where: str) -> None:
    """Raises RuntimeFault where one part of a data set is not images with labels of `classes` classes."""
    images, labels = split.images, split.labels
    if images.ndim != 4:
        raise RuntimeFault(
            "R0311", f"images of {where} have the shape {list(images.shape)}, not [n, channels, height, width]"
        )
    if images.dtype not in (np.uint8, np.float32):
        raise RuntimeFault("R0311", f"images of {where} are {images.dtype}, not uint8 or float32")
    if labels.ndim != 1:
        raise RuntimeFault("R0311", f"labels of {where} have the shape {list(labels.shape)}, not [n]")
    if len(images) != len(labels):
        raise RuntimeFault("R0310", f"{where} has {len(images)} images but {len(labels)} labels")
    if len(images) == 0 or 0 in images.shape:
        raise RuntimeFault("R0312", f"{where} is empty")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        index = int(np.flatnonzero(labels == wrong)[0])
        raise RuntimeFault("R0313", f"label {wrong} of sample {index} in {where} is outside 0 to {classes - 1}")
    if images.dtype == np.float32 and not np.isfinite(images).all():
        index = int(np.flatnonzero(~np.isfinite(images).reshape(len(images), -1).all(axis=1))[0])
        raise RuntimeFault("R0314", f"image {index} of {where} holds a NaN or an infinity")


def numbered_classes(train: Split, test: Split, origin: str) -> tuple[str, ...]:
    """Class names 0, 1, 2 … up to the largest label. Raises RuntimeFault where that is more than there are samples."""
    largest = int(max(train.labels.max(initial=0), test.labels.max(initial=0)))
    if largest >= max(len(train.labels), 1):
        raise RuntimeFault(
            "R0313", f"labels in {origin} go up to {largest}, beyond the {len(train.labels)} training samples"
        )
    return tuple(str(c) for c in range(largest + 1))
