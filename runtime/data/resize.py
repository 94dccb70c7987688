"""Bilinear resizing of a batch of images, with a triangle filter that widens when the image shrinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dlc.runtime.deferred import np

Fit = Literal["stretch", "crop"]
"""How an image of other proportions gets a size: its sides are scaled apart, or alike until it covers the size, of which then
the middle is kept."""

CHUNK = 512
"""Images resized at once, which bounds the float32 memory in use."""


@dataclass(frozen=True)
class Resize:
    """The size that all images of a data set get."""

    height: int
    width: int
    fit: Fit = "stretch"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Images [n, c, h, w] -> [n, c, height, width], of the same type."""
        if self.fit == "stretch":
            return resize(images, self.height, self.width)
        have_height, have_width = images.shape[2:]
        factor = max(self.height / have_height, self.width / have_width)
        scaled = resize(
            images, max(self.height, round(have_height * factor)), max(self.width, round(have_width * factor))
        )
        return middle(scaled, (self.height, self.width))


def middle(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of images [..., h, w], `size` (height, width) of it, rounded to the upper left (a view)."""
    top, left = (images.shape[-2] - size[0]) // 2, (images.shape[-1] - size[1]) // 2
    return images[..., top : top + size[0], left : left + size[1]]


def resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scales images [n, c, h, w] to [n, c, height, width]; the type stays (uint8 is rounded to nearest).

    Pixel centres lie at halves; edges repeat; when shrinking, the filter covers all source pixels (antialiasing, as
    Pillow's BILINEAR and torch's `antialias=True`). Sums have a fixed order, so the result never depends on the batch
    or on threads.
    """
    n, channels, have_height, have_width = images.shape
    if (have_height, have_width) == (height, width):
        return images
    rows, columns = _taps(have_height, height), _taps(have_width, width)
    result = np.empty((n, channels, height, width), images.dtype)
    for start in range(0, n, CHUNK):
        part = images[start : start + CHUNK].astype(np.float32)
        if have_height != height:
            part = _filter(part, rows, axis=2)
        if have_width != width:
            part = _filter(part, columns, axis=3)
        if images.dtype == np.uint8:
            part = np.clip(np.rint(part), 0, 255)
        result[start : start + CHUNK] = part
    return result


def _taps(have: int, want: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The filter as (source index, weight) pairs, one pair of arrays [want] per tap; weights sum to 1."""
    ratio = have / want
    radius = max(ratio, 1.0)
    centre = (np.arange(want) + 0.5) * ratio
    first = np.maximum(np.floor(centre - radius + 0.5), 0).astype(np.int64)
    last = np.minimum(np.floor(centre + radius + 0.5), have).astype(np.int64)
    index = first[:, None] + np.arange(int((last - first).max()))
    weight = np.maximum(0.0, 1.0 - np.abs((index + 0.5 - centre[:, None]) / radius))
    weight *= index < last[:, None]
    weight /= weight.sum(axis=1, keepdims=True)
    index = np.minimum(index, have - 1)
    return [(index[:, k], weight[:, k].astype(np.float32)) for k in range(index.shape[1])]


def _filter(part: np.ndarray, taps: list[tuple[np.ndarray, np.ndarray]], axis: int) -> np.ndarray:
    shape = (-1, 1) if axis == 2 else (-1,)
    index, weight = taps[0]
    total: np.ndarray = part.take(index, axis=axis) * weight.reshape(shape)
    for index, weight in taps[1:]:
        if weight.any():
            total += part.take(index, axis=axis) * weight.reshape(shape)
    return total
