"""Moving the pixels of a batch of images: bilinear sampling under an affine map, and a field of displacements, for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dlc.runtime.deferred import np

BEFORE, AFTER = 1, 2
"""Zeros around an image while it is sampled: before its first row and column, and behind its last ones."""


@dataclass(frozen=True)
class WarpShape:
    """What a warp is made for: `batch` of `count` images of `channels` x `source` (height, width), uint8 or float32, to size `target`.

    `rank` is that of the field's noise, where a field moves each pixel besides. `per_pixel`: scale and offset have one number
    per value, not per channel.
    """

    batch: int
    count: int
    channels: int
    source: tuple[int, int]
    target: tuple[int, int]
    dtype: str
    rank: tuple[int, int] | None = None
    per_pixel: bool = False


@dataclass(frozen=True)
class Field:
    """Smooth displacements of pixels, [n, 2, height, width], as `rows @ noise @ columnsᵀ`: the first is added to the row, the
    second to the column. `noise` [n, 2, a, b], `rows` [height, a], `columns` [width, b], float32.
    """

    noise: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    def values(self) -> np.ndarray:
        """The displacements themselves."""
        return np.asarray(self.rows @ self.noise @ self.columns.T)


class Warp(Protocol):
    """Samples some images: the signature of `warp` with the target's size known. There is a compiled one too."""

    def __call__(
        self,
        images: np.ndarray,
        samples: np.ndarray,
        places: np.ndarray,
        scale: np.ndarray,
        offset: np.ndarray,
        field: Field | None,
    ) -> np.ndarray:
        """float32 [n, c, height, width]."""


def coefficients(
    matrix: np.ndarray, translation: np.ndarray, source: tuple[int, int], target: tuple[int, int]
) -> np.ndarray:
    """Where each pixel of the target comes from in the source with zeros around it: float32 [n, 6].

    Row r and column c come from row `a0 r + a1 c + a2` and column `a3 r + a4 c + a5`. Given are maps between places counted
    from the images' centres: the source's place is `matrix @ (row, column) + translation`; [n, 2, 2] and [n, 2], in pixels.
    """
    middle = (np.asarray(target, np.float64) - 1) / 2
    moved = translation - matrix @ middle + (np.asarray(source, np.float64) - 1) / 2 + BEFORE
    return np.concatenate([matrix, moved[:, :, None]], axis=2).reshape(-1, 6).astype(np.float32)


def frame(images: np.ndarray) -> np.ndarray:
    """Images [n, c, h, w] inside a border of zeros, [n, c, h + 3, w + 3], so that no sample needs a test."""
    return np.pad(images, ((0, 0), (0, 0), (BEFORE, AFTER), (BEFORE, AFTER)))


def warp(
    images: np.ndarray,
    samples: np.ndarray,
    places: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    field: Field | None = None,
    *,
    size: tuple[int, int],
) -> np.ndarray:
    """Samples `images[samples]`, [n, c, h, w], bilinearly at `places` (see `coefficients`) to [n, c, *size]; outside is 0.

    A field is added to the rows and columns of the result before the places are asked where they come from. The result is
    `sample * scale + offset`, both [c, 1, 1] or [c, *size]; computed in float32, or in float64 where places are that.
    """
    framed = frame(images[samples])
    n, channels, height, width = framed.shape
    a = places[:, :, None, None]
    number = places.dtype.type
    r = np.arange(size[0], dtype=number)[:, None]
    c = np.arange(size[1], dtype=number)[None, :]
    if field is not None:
        moved = field.values()
        r, c = r + moved[:, 0], c + moved[:, 1]
    rows = a[:, 0] * r + a[:, 1] * c + a[:, 2]
    columns = a[:, 3] * r + a[:, 4] * c + a[:, 5]
    np.clip(rows, 0, height - AFTER, out=rows)
    np.clip(columns, 0, width - AFTER, out=columns)
    top, left = rows.astype(np.int32), columns.astype(np.int32)
    rows -= top
    columns -= left
    start = top * np.int32(width) + left + (np.arange(n, dtype=np.int32) * (channels * height * width))[:, None, None]
    start = start[:, None] + (np.arange(channels, dtype=np.int32) * (height * width))[:, None, None]
    flat = np.ravel(framed).astype(number, copy=False)
    upper = _mix(flat, start, columns[:, None])
    start += width
    lower = _mix(flat, start, columns[:, None])
    lower -= upper
    lower *= rows[:, None]
    lower += upper
    lower *= scale
    lower += offset
    return lower


def _mix(flat: np.ndarray, start: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Between each value and its right neighbour."""
    left: np.ndarray = flat.take(start)
    mixed: np.ndarray = flat[1:].take(start)
    mixed -= left
    mixed *= share
    mixed += left
    return mixed
