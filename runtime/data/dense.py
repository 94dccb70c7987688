"""Dense evaluation, as a data section says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError


@dataclass(frozen=True)
class Dense:
    """`dense(size=…, flip=false)`: the network at every place of the whole image (Simonyan and Zisserman 2015, section 3.2).

    `size` is that of the images, by default what `resize` says. With `flip`, the probabilities of an image and of its mirror
    image are averaged.
    """

    keyword: ClassVar[str] = "dense"
    size: int | tuple[int, int] | None = None
    flip: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= min(self.pair) <= max(self.pair) <= 65_536:
            raise ArgumentError("size", f"must be at least 1 and at most 65,536, not {self.size}")

    @property
    def pair(self) -> tuple[int, int]:
        """Height and width, where there is a size."""
        assert self.size is not None
        return (self.size, self.size) if isinstance(self.size, int) else self.size
