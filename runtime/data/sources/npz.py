"""NumPy's `.npz` archives as a data source."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError  # numpy's, where the header of an array is not Python
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.checks import check_dataset, numbered_classes
from dlc.runtime.data.files import locate
from dlc.runtime.data.resize import Resize
from dlc.runtime.data.sources.base import Dataset, Source, Split
from dlc.runtime.data.split import stratified
from dlc.runtime.deferred import np
from dlc.runtime.errors import RuntimeFault

VARIANTS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("train_x", "train_y", "test_x", "test_y"),
    ("X_train", "y_train", "X_test", "y_test"),
)
WITHOUT_TEST = (("x", "y"), ("images", "labels"), ("X", "y"))


@dataclass(frozen=True)
class Npz(Source):
    """One `.npz` file, `path`, with arrays named x_train, y_train, x_test, y_test (or train_images, train_labels …).

    An archive of only x and y (or images and labels) is split: the fraction `test` of each class, always the same
    samples. Images are [n, h, w], [n, c, h, w] or, with 1, 3 or 4 last, [n, h, w, c]; uint8 counts 0..255, floats are
    taken as they are (0..1 by convention). Labels are integers [n] or [n, 1]. An array `classes` of strings names the
    classes, else their numbers do. Pickled objects are refused.
    """

    keyword: ClassVar[str] = "npz"

    path: str | None = None
    test: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.test < 1:
            raise ArgumentError(
                "test", f"must be between 0 and 1, not {self.test}; it is the part split off for testing"
            )

    def load(self, directory: Path | None, size: Resize | None = None) -> Dataset:
        """Reads the archive; `directory` may be the file itself, or a directory that holds one `.npz` file."""
        path = self._file(directory)
        arrays = read_npz(path)
        for names in VARIANTS:
            if all(name in arrays for name in names):
                images, labels, test_images, test_labels = (arrays[name] for name in names)
                train, test = _split(path, images, labels), _split(path, test_images, test_labels)
                break
        else:
            train, test = self._divided(path, arrays)
        numbers = numbered_classes(train, test, str(path))
        return check_dataset(Dataset(train, test, _classes(path, arrays, numbers)), str(path))

    def _file(self, directory: Path | None) -> Path:
        place = locate(
            self.keyword, self.path, directory, needs="an .npz file with x_train, y_train, x_test and y_test"
        )
        if not place.is_dir():
            return place
        files = sorted(place.glob("*.npz"))
        if len(files) != 1:
            raise RuntimeFault(
                "R0304", f"{place} holds {len(files)} .npz files", help="name the file itself: --data FILE.npz"
            )
        return files[0]

    def _divided(self, path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[Split, Split]:
        for x, y in WITHOUT_TEST:
            if x in arrays and y in arrays:
                whole = _split(path, arrays[x], arrays[y])
                if not (whole.images.ndim and whole.labels.ndim):
                    raise RuntimeFault("R0311", f"{path} holds a single number as {x} or {y}, not an array")
                if len(whole.images) != len(whole.labels):
                    raise RuntimeFault("R0310", f"{path} has {len(whole.images)} images but {len(whole.labels)} labels")
                keep, test = stratified(whole.labels, self.test)
                return Split(whole.images[keep], whole.labels[keep]), Split(whole.images[test], whole.labels[test])
        raise RuntimeFault(
            "R0308",
            f"{path} holds {', '.join(arrays) or 'nothing'}",
            help="name the arrays x_train, y_train, x_test and y_test",
        )


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an archive. Raises RuntimeFault where it is not one, is damaged, or holds pickled objects."""
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise RuntimeFault("R0307", f"{path} is a single array, not an .npz archive")
            with archive:
                return {name: archive[name] for name in archive.files}
    except zipfile.BadZipFile as error:
        raise RuntimeFault("R0306", f"{path} is cut off or not an .npz archive: {error}") from error
    except MemoryError as error:
        raise RuntimeFault("R0306", f"{path} promises more than fits into memory: {error}") from error
    except (ValueError, SyntaxError, EOFError, zlib.error, KeyError, NotImplementedError, TokenError) as error:
        raise RuntimeFault("R0307", f"{path} is not a plain .npz archive: {error}") from error
    except OSError as error:
        raise RuntimeFault("R0305", f"cannot read {path}: {error.strerror or error}") from error


def _split(path: Path, images: np.ndarray, labels: np.ndarray) -> Split:
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[-1] in (1, 3, 4) and images.shape[1] not in (1, 3, 4):
        images = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    if images.dtype.kind == "f":
        images = images.astype(np.float32, copy=False)
    elif images.dtype.kind in "iu" and images.dtype != np.uint8:
        if images.size and (images.min() < 0 or images.max() > 255):
            raise RuntimeFault("R0311", f"images in {path} are {images.dtype} and go beyond 0 to 255")
        images = images.astype(np.uint8)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu":
        raise RuntimeFault("R0311", f"labels in {path} are {labels.dtype}, not integers")
    if labels.size and (labels.min() < 0 or labels.max() >= 2**31):
        raise RuntimeFault("R0313", f"labels in {path} go from {labels.min()} to {labels.max()}; they count from 0")
    return Split(images, labels.astype(np.int32))


def _classes(path: Path, arrays: Mapping[str, np.ndarray], numbers: tuple[str, ...]) -> tuple[str, ...]:
    if "classes" not in arrays:
        return numbers
    names = tuple(str(name) for name in arrays["classes"].ravel())
    if len(names) < len(numbers):
        raise RuntimeFault("R0313", f"{path} names {len(names)} classes, but its labels go to {len(numbers) - 1}")
    return names
