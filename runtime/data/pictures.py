"""Image files as arrays, through Pillow (imported when the first file is read)."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dlc.runtime.atomic import read_fault
from dlc.runtime.deferred import np
from dlc.runtime.errors import RuntimeFault

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def read_picture(path: Path | BytesIO, channels: Literal[1, 3] | None = None, name: str = "") -> np.ndarray:
    """An image file, or its bytes, which messages call `name`, as uint8 [channels, height, width].

    `channels` 1 turns colours into grey (ITU-R 601 luma), 3 turns grey into three equal channels; None keeps what the
    file has, grey or colour. Transparency is laid over black. The camera's orientation tag is obeyed.
    Raises RuntimeFault where the file cannot be read as an image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError  # 50 ms that sessions on arrays never need

    called = name or path
    try:
        with Image.open(path) as picture:
            upright: Picture = ImageOps.exif_transpose(picture)
            if "A" in upright.getbands() or "transparency" in upright.info:
                rgba = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
                upright = upright.convert("L") if picture.mode == "LA" else upright
            if upright.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
                upright = _eight_bits(np.asarray(upright))
            grey = channels == 1 or (channels is None and upright.mode in ("1", "L"))
            array = np.asarray(upright.convert("L" if grey else "RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError, EOFError) as error:
        raise RuntimeFault(
            "R0211", f"{called} is no image that can be read: {error}", help="PNG, JPEG, BMP, GIF, TIFF and WebP can"
        ) from error
    except OSError as error:
        if error.errno is None:  # Pillow's own: a truncated file
            raise RuntimeFault("R0211", f"{called} is damaged: {error}", help="get the file again") from error
        raise read_fault(str(called), error) from error
    return array[None] if array.ndim == 2 else np.ascontiguousarray(np.moveaxis(array, -1, 0))


def _eight_bits(array: np.ndarray) -> Picture:
    from PIL import Image

    if array.dtype.kind == "f":
        return Image.fromarray(np.clip(np.rint(array), 0, 255).astype(np.uint8))
    return Image.fromarray((np.clip(array, 0, 65535) // 257).astype(np.uint8))
