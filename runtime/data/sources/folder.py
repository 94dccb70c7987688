"""Folders of image files, one folder for each class, as a data source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.checks import check_dataset
from dlc.runtime.data.files import locate
from dlc.runtime.data.gather import Damaged, Encoded, Gathering, grey_and_coloured, notes
from dlc.runtime.data.pictures import SUFFIXES, read_picture
from dlc.runtime.data.resize import Resize
from dlc.runtime.data.sources.base import Dataset, Facts, Source, Split
from dlc.runtime.data.split import stratified
from dlc.runtime.errors import RuntimeFault

TEST_NAMES = ("test", "val", "validation")


@dataclass(frozen=True)
class Folder(Source):
    """Image files under `path`: train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png alone.

    A single tree is split: the fraction `test` of each class, always the same files. `val` or `validation` serve as
    `test` where that is missing. Class names are the folders' names, sorted; files are read in sorted order, folders
    within class folders included; files and folders whose names start with a dot are passed over.

    `channels` is 1 (grey) or 3 (colour); without it, 1 where every file is grey. Images get the size that `resize` in the data
    section says, or without that `size`; without both, all must have the same. A file that cannot be read is an error; with
    `damaged=skip` it is left out, and their number told. All images are held in memory as bytes.
    """

    keyword: ClassVar[str] = "folder"

    path: str | None = None
    size: int | tuple[int, int] | None = None
    channels: int | None = None
    test: float = 0.2
    damaged: Damaged = "error"

    def __post_init__(self) -> None:
        if self.channels not in (None, 1, 3):
            raise ArgumentError("channels", f"must be 1 or 3, not {self.channels}")
        if not 0 < self.test < 1:
            raise ArgumentError(
                "test", f"must be between 0 and 1, not {self.test}; it is the part split off for testing"
            )
        if self.size is not None and min(self._size) < 1:
            raise ArgumentError("size", f"must be 1 or more, not {self.size}")

    @property
    def _size(self) -> tuple[int, int]:
        assert self.size is not None
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def facts(self) -> Facts:
        """What the arguments say."""
        return Facts(self.channels, self._size if self.size is not None else None)

    def load(self, directory: Path | None, size: Resize | None = None) -> Dataset:
        """Reads every image. Raises RuntimeFault that names the first file or folder that does not fit."""
        root = locate(
            self.keyword, self.path, directory, needs="train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png"
        )
        if not root.is_dir():
            raise RuntimeFault("R0304", f"{root} is not a directory")
        train_root = root / "train"
        if train_root.is_dir():
            test_root = next((root / name for name in TEST_NAMES if (root / name).is_dir()), None)
            if test_root is None:
                raise RuntimeFault("R0304", f"{root} has a folder train, but no folder test beside it")
            train_files, test_files = _listing(train_root), _listing(test_root)
            unknown = sorted(set(test_files) - set(train_files))
            if unknown:
                raise RuntimeFault("R0313", f"{test_root / unknown[0]} is a class that {train_root} does not have")
            classes = tuple(train_files)
            train, found = self._read(classes, train_files, size, train_root)
            test, more = self._read(classes, test_files, size, test_root)
            found += more
            grey_and_coloured(train, test, str(root))
        else:
            files = _listing(root)
            classes = tuple(files)
            whole, found = self._read(classes, files, size, root)
            keep, chosen = stratified(whole.labels, self.test)
            train, test = (Split(whole.images[index], whole.labels[index]) for index in (keep, chosen))
        return check_dataset(Dataset(train, test, classes, found), str(root))

    def _read(
        self, classes: tuple[str, ...], files: dict[str, list[Path]], size: Resize | None, where: Path
    ) -> tuple[Split, tuple[str, ...]]:
        if size is None and self.size is not None:
            size = Resize(*self._size)
        items = (
            Encoded(str(path), partial(read_picture, path), label)
            for label, name in enumerate(classes)
            for path in files.get(name, [])
        )
        split, skipped = Gathering(size, self.channels, self.damaged)(items, str(where))
        return split, notes(skipped, str(where))


def _listing(root: Path) -> dict[str, list[Path]]:
    """The image files of each class folder. Raises RuntimeFault where there are no classes, or one without images."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise RuntimeFault("R0312", f"{root} has no folders; each folder in it would be a class")
    listing: dict[str, list[Path]] = {}
    for folder in folders:
        files = [
            p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
        ]
        if not files:
            raise RuntimeFault(
                "R0312",
                f"the class folder {folder} holds no images",
                help=f"images end with {', '.join(sorted(SUFFIXES))}",
            )
        listing[folder.name] = sorted(files)
    return listing
