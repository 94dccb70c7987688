"""Mean and deviation of images, by channel or by pixel."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.runtime.deferred import np


def statistics(images: np.ndarray, *, per_pixel: bool = False) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (divided by n - 1) of images [n, c, h, w], in units of 0..1.

    One number per channel, or with `per_pixel` the mean of each value in channels, height, width order, with its own
    deviation. uint8 images are summed exactly, as integers. A constant channel or pixel gets the deviation 1.
    """
    n, channels = images.shape[:2]
    if per_pixel:
        step = 255.0 if images.dtype == np.uint8 else 1.0
        mean = images.mean(axis=0, dtype=np.float64)
        square = np.zeros_like(mean)
        for start in range(0, n, 1024):
            square += np.square(images[start : start + 1024] - mean).sum(axis=0)
        std = np.sqrt(square / max(n - 1, 1)) / step
        return _pair((mean / step).ravel(), std.ravel())
    pairs = [_channel(images[:, c]) for c in range(channels)]
    return _pair([m for m, _ in pairs], [s for _, s in pairs])


def _channel(values: np.ndarray) -> tuple[float, float]:
    count = values.size
    if values.dtype == np.uint8:
        histogram = sum((np.bincount(part.ravel(), minlength=256) for part in _parts(values)), np.zeros(256, np.int64))
        levels = np.arange(256)
        total, squares = int(histogram @ levels), int(histogram @ levels**2)
        variance = (squares * count - total * total) / (count * max(count - 1, 1))
        return total / count / 255.0, variance**0.5 / 255.0
    mean = float(values.mean(dtype=np.float64))
    square = sum(float(np.square(part - mean, dtype=np.float64).sum()) for part in _parts(values))
    return mean, (square / max(count - 1, 1)) ** 0.5


def _parts(values: np.ndarray) -> list[np.ndarray]:
    return [values[start : start + 1024] for start in range(0, len(values), 1024)]


def _pair(
    mean: Sequence[float] | np.ndarray, std: Sequence[float] | np.ndarray
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(float(m) for m in mean), tuple(float(s) if s > 1e-12 else 1.0 for s in std)
