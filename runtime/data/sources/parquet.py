"""Parquet files with encoded images, as Hugging Face's data sets have them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.checks import check_dataset
from dlc.runtime.data.files import locate
from dlc.runtime.data.gather import Damaged, Encoded, Gathering, grey_and_coloured, notes
from dlc.runtime.data.pictures import read_picture
from dlc.runtime.data.resize import Resize
from dlc.runtime.data.sources.base import Dataset, Facts, Source, Split
from dlc.runtime.data.split import stratified
from dlc.runtime.deferred import np
from dlc.runtime.errors import RuntimeFault

IMAGES = ("image", "img", "picture")
LABELS = ("label", "labels", "fine_label", "class")
TESTS = ("test", "validation", "valid", "val")


@dataclass(frozen=True)
class Parquet(Source):
    """Parquet files of images as PNG, JPEG and the like, in Hugging Face's layout: `path` is one file or a folder of them.

    A column `image` (or img) holds the files' bytes, or structs of bytes and path; a column `label` whole numbers, whose
    names the file's features may give, or names, which are numbered in their order. Give the columns' names where they
    are others. Files whose names begin with test or validation, in any folder, are the test part; without such files the
    fraction `test` of each class is split off, always the same images. `channels`, `damaged` and sizes are as of
    `folder`. The package pyarrow reads the files.
    """

    keyword: ClassVar[str] = "parquet"

    path: str | None = None
    image: str | None = None
    label: str | None = None
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

    def facts(self) -> Facts:
        """The channels that are asked for."""
        return Facts(self.channels)

    def load(self, directory: Path | None, size: Resize | None = None) -> Dataset:
        """Reads every image. Raises RuntimeFault that names the file and row that does not fit."""
        root = locate(
            self.keyword, self.path, directory, needs="train-00000.parquet and test-00000.parquet, or one file"
        )
        files = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
        if not files:
            raise RuntimeFault("R0304", f"{root} holds no .parquet files")
        parts: dict[str, list[_Table]] = {"train": [], "test": []}
        for file in files:
            part = "test" if file.name.lower().startswith(TESTS) else "train"
            parts[part].append(_Table(file, self.image, self.label))
        if not parts["train"]:
            raise RuntimeFault("R0304", f"{root} has only test files: {files[0].name}", help="name one train-….parquet")
        classes = _classes([*parts["train"], *parts["test"]])
        train, skipped = self._read(parts["train"], classes, size, root)
        if parts["test"]:
            test, more = self._read(parts["test"], classes, size, root)
            skipped += more
            grey_and_coloured(train, test, str(root))
        else:
            keep, chosen = stratified(train.labels, self.test)
            train, test = (Split(train.images[index], train.labels[index]) for index in (keep, chosen))
        return check_dataset(Dataset(train, test, classes, notes(skipped, str(root))), str(root))

    def _read(
        self, tables: Sequence[_Table], classes: tuple[str, ...], size: Resize | None, root: Path
    ) -> tuple[Split, int]:
        items = (item for table in tables for item in table.items(classes))
        return Gathering(size, self.channels, self.damaged)(items, str(root))


class _Table:
    """One file: its labels, and its images one group of rows at a time."""

    def __init__(self, path: Path, image: str | None, label: str | None) -> None:
        try:
            import pyarrow as arrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise RuntimeFault(
                "R0332", "parquet files need the package pyarrow", help="pip install 'dlc[parquet]'"
            ) from error
        self.path = path
        try:
            self._file = parquet.ParquetFile(path)
            names = self._file.schema_arrow.names
            self._image = _column(path, names, image, IMAGES, "image")
            label = _column(path, names, label, LABELS, "label")
            labels = self._file.read(columns=[label]).column(0)
        except arrow.ArrowException as error:
            raise RuntimeFault(
                "R0306", f"{path} is no whole parquet file: {error}", help="fetch the file again"
            ) from error
        except OSError as error:
            raise RuntimeFault("R0305", f"cannot read {path}: {error.strerror or error}") from error
        if labels.null_count:
            raise RuntimeFault("R0313", f"{labels.null_count} labels in {path} are missing")
        self.labels: list[Any] = labels.to_pylist()
        self.named = all(isinstance(value, str) for value in self.labels)
        if not self.named and not all(isinstance(v, int) and not isinstance(v, bool) for v in self.labels):
            raise RuntimeFault("R0311", f"labels in {path} are {labels.type}, neither whole numbers nor names")
        self.names = _feature_names(self._file.schema_arrow.metadata, label)

    def items(self, classes: tuple[str, ...]) -> Iterator[Encoded]:
        """The rows in order."""
        numbers = {name: number for number, name in enumerate(classes)}
        row = 0
        for batch in self._file.iter_batches(batch_size=256, columns=[self._image]):
            for value in batch.column(0).to_pylist():
                content = value.get("bytes") if isinstance(value, dict) else value
                name = f"row {row} of {self.path}"
                label = self.labels[row]
                yield Encoded(name, partial(_decoded, content, name), numbers[label] if self.named else label)
                row += 1


def _decoded(content: Any, name: str, channels: Literal[1, 3] | None) -> np.ndarray:
    if not isinstance(content, bytes):
        raise RuntimeFault("R0211", f"{name} holds no image, but {type(content).__name__}")
    return read_picture(io.BytesIO(content), channels, name)


def _column(path: Path, names: Sequence[str], wanted: str | None, usual: Sequence[str], what: str) -> str:
    for name in usual if wanted is None else (wanted,):
        if name in names:
            return name
    raise RuntimeFault(
        "R0308",
        f"{path} has no column {wanted or ' or '.join(usual)}, but {', '.join(names)}",
        help=f'name the column: parquet({what}="…")',
    )


def _feature_names(metadata: dict[bytes, bytes] | None, label: str) -> tuple[str, ...]:
    """The classes' names that Hugging Face's library leaves in a file's metadata."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _classes(tables: Sequence[_Table]) -> tuple[str, ...]:
    """The classes' names: those in the labels themselves, sorted, those of the metadata, or numbers."""
    if len({table.named for table in tables}) > 1:
        raise RuntimeFault("R0311", f"labels are numbers in some files and names in others, as in {tables[0].path}")
    if tables[0].named:
        return tuple(sorted({name for table in tables for name in table.labels}))
    if tables[0].names:
        return tables[0].names
    largest = max((max(table.labels, default=0) for table in tables), default=0)
    count = sum(len(table.labels) for table in tables)
    if largest >= max(count, 1):
        raise RuntimeFault("R0313", f"labels in {tables[0].path} go up to {largest}, beyond the {count} samples")
    return tuple(str(number) for number in range(largest + 1))
