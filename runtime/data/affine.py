"""Moving the pixels of a batch of images: bilinear sampling under one 2x2 matrix and one translation for each image."""

from __future__ import annotations

from dlc.runtime.deferred import np


def warp(images: np.ndarray, matrix: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Samples images [n, c, h, w] bilinearly; outside is 0 (black). float32.

    The value at (row, column), counted from the image's centre, comes from `matrix @ (row, column) + translation`
    of the source: `matrix` [n, 2, 2], `translation` [n, 2], both in pixels.
    """
    n, channels, height, width = images.shape
    # A border of zeros, two wide, takes every sample that falls outside, so that no sample needs a test.
    stride = width + 4
    framed = np.zeros((n, channels, height + 4, stride), np.float32)
    framed[:, :, 2:-2, 2:-2] = images
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32((height - 1) / 2)
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32((width - 1) / 2)
    m = matrix.astype(np.float32)[:, :, :, None, None]
    t = translation.astype(np.float32)[:, :, None, None]
    rows = m[:, 0, 0] * y + m[:, 0, 1] * x + (t[:, 0] + np.float32((height - 1) / 2 + 2))
    columns = m[:, 1, 0] * y + m[:, 1, 1] * x + (t[:, 1] + np.float32((width - 1) / 2 + 2))
    np.clip(rows, 0, height + 2, out=rows)
    np.clip(columns, 0, width + 2, out=columns)
    top, left = rows.astype(np.int32), columns.astype(np.int32)
    rows -= top
    columns -= left
    start = top * stride + left + (np.arange(n, dtype=np.int32) * (channels * (height + 4) * stride))[:, None, None]
    if channels > 1:
        start = start[:, None] + (np.arange(channels, dtype=np.int32) * ((height + 4) * stride))[:, None, None]
        rows, columns = rows[:, None], columns[:, None]
    flat = framed.ravel()
    upper = _mix(flat, start, columns)
    start += stride
    lower = _mix(flat, start, columns)
    lower -= upper
    lower *= rows
    lower += upper
    return lower.reshape(n, channels, height, width)


def _mix(flat: np.ndarray, start: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Between each value and its right neighbour."""
    left: np.ndarray = flat.take(start)
    mixed: np.ndarray = flat[1:].take(start)
    mixed -= left
    mixed *= share
    mixed += left
    return mixed
