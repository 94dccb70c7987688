"""Random changes of brightness, contrast, saturation and hue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.transforms.base import Recolouring
from dlc.runtime.deferred import np
from dlc.runtime.errors import RuntimeFault

GREY = (0.299, 0.587, 0.114)
"""How much red, green and blue count in brightness (ITU-R BT.601)."""

YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""Colours as brightness and a plane of hues (NTSC)."""


@dataclass(frozen=True)
class ColorJitter(Recolouring):
    """Changes brightness, contrast, saturation and hue of each image, in this order, then cuts off below black and above white.

    With g the grey value (0.299 red + 0.587 green + 0.114 blue) and a factor f between 1 - `brightness` and 1 + `brightness`
    (0 at least): `f x`; likewise `f x + (1 - f) mean(g)` for `contrast` and `f x + (1 - f) g` for `saturation` (torchvision's
    ColorJitter); `hue` turns the colours by up to that part of a full circle in the I-Q plane of NTSC's YIQ.
    """

    keyword: ClassVar[str] = "color_jitter"

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ArgumentError(name, f"must be 0 or more, not {getattr(self, name)}")
        if not 0 <= self.hue <= 0.5:
            raise ArgumentError("hue", f"must be between 0 and 0.5, half a circle, not {self.hue}")

    def fitted(self, images: np.ndarray) -> Recolouring:
        """Itself. Raises RuntimeFault where colours of grey images should change."""
        if images.shape[1] != 3 and (self.saturation or self.hue):
            raise RuntimeFault(
                "R0321",
                f"color_jitter changes saturation or hue, but images have {images.shape[1]} channel",
                help="leave saturation and hue out",
            )
        return self

    def apply(self, images: np.ndarray, draws: Draws, white: float) -> np.ndarray:
        """One linear map of colours for each image."""
        factors = draws.uniform(-1, 1, 4)
        bright, contrast, saturation = (
            np.maximum(0.0, 1 + factors[:, k] * getattr(self, name))[:, None, None]
            for k, name in enumerate(("brightness", "contrast", "saturation"))
        )
        return recoloured(images, bright, contrast, saturation, 2 * np.pi * self.hue * factors[:, 3], white)


def recoloured(
    images: np.ndarray,
    bright: np.ndarray,
    contrast: np.ndarray,
    saturation: np.ndarray,
    turn: np.ndarray,
    white: float,
) -> np.ndarray:
    """Images [n, c, h, w] with three factors [n, 1, 1] and an angle [n] applied to each: see `ColorJitter`."""
    n, channels, height, width = images.shape
    flat = images.reshape(n, channels, height * width)
    grey = np.asarray(GREY if channels == 3 else (1 / channels,) * channels)
    # All four are linear in the colour: x -> matrix x + constant, with the mean grey of the image as brightened.
    mean = (flat.mean(axis=2, dtype=np.float64) @ grey)[:, None, None] * bright
    matrix = np.eye(channels) * bright * contrast
    constant = np.broadcast_to((1 - contrast) * mean, (n, channels, 1))
    if channels == 3:
        for step in (saturation * np.eye(3) + (1 - saturation) * grey, _hue(turn)):
            matrix, constant = step @ matrix, step @ constant
    changed: np.ndarray = np.matmul(matrix.astype(np.float32), flat)
    changed += constant.astype(np.float32)
    np.clip(changed, 0, np.float32(white), out=changed)
    return changed.reshape(images.shape)


def _hue(turn: np.ndarray) -> np.ndarray:
    """The matrices [n, 3, 3] that turn colours in the I-Q plane."""
    cosine, sine = np.cos(turn), np.sin(turn)
    inner = np.zeros((len(turn), 3, 3))
    inner[:, 0, 0] = 1
    inner[:, 1, 1] = inner[:, 2, 2] = cosine
    inner[:, 1, 2], inner[:, 2, 1] = -sine, sine
    yiq = np.asarray(YIQ)
    return np.asarray(np.linalg.inv(yiq) @ inner @ yiq)
