"""Colour noise along the principal components of the training images' colours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.transforms.base import Recolouring
from dlc.runtime.deferred import np
from dlc.runtime.errors import RuntimeFault


@dataclass(frozen=True)
class PcaNoise(Recolouring):
    """Adds `[p1 p2 p3] (a1 l1, a2 l2, a3 l3)` to every pixel of an image (Krizhevsky et al. 2012, section 4.1).

    p and l are eigenvectors and eigenvalues of the covariance of red, green and blue over the pixels of the training
    images, in units of 0 to 1; each a is drawn for each image from a normal distribution of the deviation `std`. Nothing
    is cut off.
    """

    keyword: ClassVar[str] = "pca_noise"

    std: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.std < math.inf:
            raise ArgumentError("std", f"must be 0 or more, not {self.std}")

    def fitted(self, images: np.ndarray) -> Recolouring:
        """With the components of the training images. Raises RuntimeFault for images without colours."""
        if images.shape[1] != 3:
            raise RuntimeFault(
                "R0321", f"pca_noise needs red, green and blue, but images have {images.shape[1]} channel"
            )
        return ColourNoise(self.std, _components(images))

    def apply(self, images: np.ndarray, draws: Draws, white: float) -> np.ndarray:
        """Takes the components of these images themselves."""
        return ColourNoise(self.std, _components(images / np.float32(white))).apply(images, draws, white)


@dataclass(frozen=True)
class ColourNoise(Recolouring):
    """`PcaNoise` with its components, row by row: `components @ a` is added."""

    std: float
    components: tuple[float, ...]

    def apply(self, images: np.ndarray, draws: Draws, white: float) -> np.ndarray:
        """Adds one colour to each image, in place."""
        added = self.std * draws.normal(3) @ np.reshape(self.components, (3, 3)).T * white
        images += added.astype(np.float32)[:, :, None, None]
        return images


def _components(images: np.ndarray) -> tuple[float, ...]:
    values, vectors = np.linalg.eigh(covariance(images))
    return tuple(map(float, (vectors * values).ravel()))


def covariance(images: np.ndarray) -> np.ndarray:
    """The covariance (divided by n - 1) of the channels over all pixels of images [n, c, h, w], in units of 0 to 1."""
    channels = images.shape[1]
    total, products, count = np.zeros(channels), np.zeros((channels, channels)), 0
    for start in range(0, len(images), 256):
        part = images[start : start + 256].astype(np.float64).transpose(1, 0, 2, 3).reshape(channels, -1)
        total += part.sum(axis=1)
        products += part @ part.T
        count += part.shape[1]
    unit = 255.0 if images.dtype == np.uint8 else 1.0
    return np.asarray((products - np.outer(total, total) / count) / (max(count - 1, 1) * unit**2))
