"""Random crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.transforms.base import Geometric, Places, Size
from dlc.runtime.deferred import np
from dlc.runtime.errors import RuntimeFault


@dataclass(frozen=True)
class Crop(Geometric):
    """Cuts a window of `size` x `size` at a random place out of each image, after `pad` zeros on every side.

    `crop(32, pad=4)` on images of 32x32 is CIFAR's augmentation, `crop(224)` on images of 256x256 AlexNet's. With
    `shorter=(256, 512)` each image is scaled first, its shorter side to a whole number between the two, all equally likely:
    VGG's scale jitter (Simonyan and Zisserman 2015, section 3.1). Where a chain makes images smaller, validation, test and
    use see the middle of theirs.
    """

    keyword: ClassVar[str] = "crop"

    size: int
    pad: int = 0
    shorter: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ArgumentError("size", f"must be 1 or more, not {self.size}")
        if self.pad < 0:
            raise ArgumentError("pad", f"must be 0 or more, not {self.pad}")
        if self.shorter is not None and not 1 <= self.shorter[0] <= self.shorter[1]:
            raise ArgumentError("shorter", f"is a smallest and a largest size, not {self.shorter}")

    def target(self, source: Size) -> Size:
        """The window's size. Raises RuntimeFault where an image, scaled and padded, may be smaller than that."""
        least = min(source) if self.shorter is None else self.shorter[0]
        if least + 2 * self.pad < self.size:
            height, width = source
            found = f"images of {height}x{width}" if self.shorter is None else f"images whose shorter side is {least}"
            raise RuntimeFault(
                "R0320",
                f"crop({self.size}) does not fit into {found}",
                help=f"write crop({least}), or give pad=…",
            )
        return self.size, self.size

    def places(self, draws: Draws, source: Size) -> Places:
        """Two corners, and one factor where it scales."""
        full = np.broadcast_to(np.asarray(source, np.float64), (len(draws), 2))
        scaled = full
        if self.shorter is not None:
            side = draws.integers(*self.shorter)
            scaled = np.rint(full * side / min(source))
        factor = full / scaled
        room = scaled + (2 * self.pad + 1 - self.size)
        corner = np.floor(draws.uniform(0, 1, 2) * room) - self.pad
        matrix = factor[:, :, None] * np.eye(2)
        return Places(matrix, (self.size / 2 + corner) * factor - full / 2)
