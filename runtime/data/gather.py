"""Encoded images, one after the other, as one array: brought to one size and number of channels, damaged ones left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from dlc.runtime.data.resize import Resize
from dlc.runtime.data.sources.base import Split
from dlc.runtime.deferred import np
from dlc.runtime.errors import RuntimeFault

Damaged = Literal["error", "skip"]
"""What happens where an image cannot be read."""


@dataclass(frozen=True)
class Encoded:
    """An image that is not read yet: where it is, for messages, what reads it (given 1, 3 or no channels), its label."""

    name: str
    read: Callable[[Literal[1, 3] | None], np.ndarray]
    label: int


@dataclass(frozen=True)
class Gathering:
    """How images are brought together.

    `channels` 1 or 3 is asked of every image; None takes 1 where every image is grey. `size` is what all are
    brought to; None leaves them as they are, and they must agree.
    """

    size: Resize | None = None
    channels: int | None = None
    damaged: Damaged = "error"

    def __call__(self, items: Iterable[Encoded], where: str) -> tuple[Split, int]:
        """All images as uint8, and how many were left out.

        Raises RuntimeFault that names the first image that cannot be read (unless it may be left out) or does not fit.
        """
        channels: Literal[1, 3] | None = 1 if self.channels == 1 else 3 if self.channels == 3 else None
        pictures, names, labels, skipped = [], [], [], 0
        for item in items:
            try:
                picture = item.read(channels)
            except RuntimeFault as fault:
                if self.damaged == "skip" and fault.code == "R0211":
                    skipped += 1
                    continue
                raise
            pictures.append(picture if self.size is None else self.size(picture[None])[0])
            names.append(item.name)
            labels.append(item.label)
        if not pictures:
            raise RuntimeFault("R0312", f"there is no image that can be read in {where}")
        if len({len(picture) for picture in pictures}) > 1:
            pictures = [np.broadcast_to(picture, (3, *picture.shape[1:])) for picture in pictures]
        for name, picture in zip(names, pictures, strict=True):
            if picture.shape != pictures[0].shape:
                first, other = (f"{p.shape[2]}x{p.shape[1]}" for p in (pictures[0], picture))
                raise RuntimeFault(
                    "R0311",
                    f"images differ in size: {names[0]} is {first}, {name} is {other} (width x height)",
                    help="scale them while reading: write `resize 64` in the data section",
                )
        try:
            return Split(np.stack(pictures), np.asarray(labels, np.int32)), skipped
        except MemoryError as error:
            size = sum(picture.nbytes for picture in pictures) / 2**30
            raise RuntimeFault(
                "R0317", f"the images in {where} take {size:.1f} GiB of memory", help="make them smaller with `resize`"
            ) from error


def grey_and_coloured(train: Split, test: Split, where: str) -> None:
    """Raises RuntimeFault where one part is grey and the other is not."""
    if train.images.shape[1] != test.images.shape[1]:
        raise RuntimeFault(
            "R0311",
            f"in {where}, one of train and test is grey and the other has colours",
            help="say which in the data source: channels=1 or channels=3",
        )


def notes(skipped: int, where: str) -> tuple[str, ...]:
    """What the user is told of images that were left out."""
    return (f"{skipped:,} damaged image{'s' if skipped > 1 else ''} of {where} left out",) if skipped else ()
