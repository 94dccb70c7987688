"""From images as they come to what a network takes: size, scale and normalisation, the same in training and in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from dlc.runtime.data.resize import Fit, Resize, middle
from dlc.runtime.errors import RuntimeFault


@dataclass(frozen=True)
class Normalizer:
    """One multiplication and one addition, float32; both factors have a shape that images [n, c, h, w] broadcast with."""

    scale: np.ndarray
    offset: np.ndarray

    def __call__(self, images: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """`images * scale + offset`, in `out` where given."""
        scaled: np.ndarray = np.multiply(images, self.scale, out=out, dtype=np.float32)
        scaled += self.offset
        return scaled


class Preprocessing(msgspec.Struct, frozen=True):
    """What happens to an image before the network sees it: resize to `height` x `width`, then `(x - mean) / std`.

    uint8 images count 0..255 and are divided by 255 first; float images are taken as they are, so `mean` and `std` are
    in units of 0..1. Both hold one number per channel, or one per value in channels, height, width order.
    A resize scales the whole image, or with the `fit` "crop" until it covers the size, of which the middle is kept. uint8 images are rounded to uint8 again
    after it, so that a resized data set can be kept as bytes and gives the same numbers as an image resized in use.
    With `crop` (height, width) the network sees the middle of the resized image, and means per value are of that size;
    with ten `views` its error is measured on the corners, the middle and their mirror images. Where `dense` is a size (height,
    width), the error is that of a fully convolutional network on whole images of it, and where `mirrored` on their mirror
    images too.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: tuple[int, int] | None = None
    fit: Fit = "stretch"
    views: Literal["one", "ten"] = "one"
    dense: tuple[int, int] | None = None
    mirrored: bool = False

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of what the network sees."""
        return self.crop or (self.height, self.width)

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Images of any size -> float32 [n, channels, height, width], ready for the network.

        Takes [n, c, h, w] and [c, h, w], the same with channels last, and [n, h, w] and [h, w] where `channels` is 1.
        Raises RuntimeFault where the array is none of these.
        """
        images = self._batch(np.asarray(images))
        if 0 in images.shape[2:]:
            raise RuntimeFault(
                "R0302", f"an image of height {images.shape[2]} and width {images.shape[3]} has no pixels"
            )
        images = Resize(self.height, self.width, self.fit)(images)
        return self.normalize(images)

    def resized(self, height: int, width: int) -> Preprocessing:
        """The same for images of another size. Raises RuntimeFault where each pixel has a mean of its own."""
        if (height, width) != (self.height, self.width) and len(self.mean) != self.channels:
            raise RuntimeFault(
                "R0220",
                f"images are normalised pixel by pixel, which is for {self.height}x{self.width} alone",
                help="train with `normalize per_channel` to take images of other sizes",
            )
        return msgspec.structs.replace(self, height=height, width=width, crop=None)

    def normalize(self, images: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Resized images [n, channels, height, width] -> the middle of them, float32, `(x - mean) / std`; uint8 counts 0..255."""
        return self.normalizer(255.0 if images.dtype == np.uint8 else 1.0)(middle(images, self.window), out)

    def normalizer(self, unit: float) -> Normalizer:
        """`(x / unit - mean) / std`, ready to be used on many batches; `unit` is what counts as 1."""
        per_channel = len(self.mean) == self.channels
        shape = (self.channels, 1, 1) if per_channel else (self.channels, *self.window)
        mean = np.asarray(self.mean, np.float64).reshape(shape)
        std = np.asarray(self.std, np.float64).reshape(shape)
        return Normalizer((1.0 / (unit * std)).astype(np.float32), (-mean / std).astype(np.float32))

    def _batch(self, images: np.ndarray) -> np.ndarray:
        if images.dtype != np.uint8:
            if images.dtype.kind not in "fiub":
                raise RuntimeFault("R0301", f"images are numbers, but this array holds {images.dtype}")
            if images.dtype.kind in "iu":
                raise RuntimeFault(
                    "R0301",
                    f"images are uint8 (0 to 255) or float (0 to 1), but this array holds {images.dtype}",
                    help="convert it: array.astype(numpy.uint8) or array.astype(numpy.float32) / 255",
                )
            images = images.astype(np.float32, copy=False)
        shape, channels = images.shape, self.channels
        if images.ndim == 4 and shape[1] == channels:
            return images
        if images.ndim == 3 and shape[0] == channels:
            return images[None]
        if channels == 1 and images.ndim == 3 and shape[2] in (3, 4):
            raise RuntimeFault(
                "R0302",
                f"an array of shape {list(shape)} is one colour image or {shape[0]} narrow grey ones: the network takes 1 channel",
                help="make a colour image grey; give grey ones their channel: array[:, None]",
            )
        if channels == 1 and images.ndim == 3 and shape[2] != 1:
            return images[:, None]
        if channels == 1 and images.ndim == 2:
            return images[None, None]
        if images.ndim in (3, 4) and shape[-1] == channels:
            return np.moveaxis(images[None] if images.ndim == 3 else images, -1, 1)
        raise RuntimeFault(
            "R0302",
            f"expected images of {channels} channel{'s' if channels != 1 else ''}, got an array of shape {list(shape)}",
            help=f"give [n, {channels}, height, width] or [{channels}, height, width]",
        )
