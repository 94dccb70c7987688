"""What an augmentation is: a move of pixels, a change of colours, or a mixture of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.data.affine import Field
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.mix import Mix
from dlc.runtime.deferred import np

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Transform(ABC):
    """A random change of training images, a batch at a time. Fields are the arguments that the language accepts.

    All random numbers come from the `Draws` given, so an image of an epoch is changed in the same way in any batch.
    """

    keyword: ClassVar[str]
    mixes: ClassVar[bool] = False
    """Whether it mixes images, so that each has two labels."""

    def fitted(self, images: np.ndarray) -> Transform:
        """The transform with what it has to know of the training images [n, c, h, w], uint8 or float32.

        Raises RuntimeFault where it does not suit them.
        """
        return self


@dataclass(frozen=True)
class Places:
    """Where the pixels of changed images come from.

    The value at (row, column), counted from the middle of the new image, comes from `matrix @ (row, column) + translation`,
    counted from the middle of the old one: `matrix` [n, 2, 2], `translation` [n, 2], in pixels.
    """

    matrix: np.ndarray
    translation: np.ndarray


class Geometric(Transform):
    """Moves pixels. Neighbours in a chain are put together first, so that images are sampled once, bilinearly.

    What comes into view from outside an image is 0 (black).
    """

    def target(self, source: Size) -> Size:
        """The size of the images it makes. Raises RuntimeFault where it cannot take the source's."""
        return source

    @abstractmethod
    def places(self, draws: Draws, source: Size) -> Places:
        """The moves of `len(draws)` images of the size `source`."""

    def field(self, draws: Draws, source: Size) -> Field | None:
        """Displacements of single pixels, before the move; only of those that `displaces`."""
        return None

    @property
    def displaces(self) -> bool:
        """Whether it has a field."""
        return False


class Recolouring(Transform):
    """Changes the values of pixels in their places."""

    @abstractmethod
    def apply(self, images: np.ndarray, draws: Draws, white: float) -> np.ndarray:
        """float32 [n, c, h, w], 0 (black) to `white`, -> the same shape; may write into `images`."""


class Mixing(Transform):
    """Mixes each image of a batch with its neighbour, the last one with the first. It stands at the end of a chain.

    The order of an epoch is random, so the neighbour is a random sample. It is the one thing in which images depend on
    the batch size.
    """

    mixes: ClassVar[bool] = True

    @abstractmethod
    def mix(self, images: np.ndarray, labels: np.ndarray, draws: Draws) -> tuple[np.ndarray, Mix]:
        """float32 [n, c, h, w] and int32 [n] -> the mixed images and what is needed for their loss."""


def unmoved(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The matrix and translation of images that stay as they are."""
    return np.broadcast_to(np.eye(2), (count, 2, 2)), np.zeros((count, 2))
