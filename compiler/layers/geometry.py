"""Windows over images: sizes, strides and padding as arguments are written, checked and worked out."""

from __future__ import annotations

from math import prod
from typing import Literal

from dlc.compiler.ir import ShapeError
from dlc.compiler.layers.base import ArgumentError, FeatureShape

Pair = int | tuple[int, int]
"""`5`, or height and width: `(1, 3)`."""

Padding = int | tuple[int, int] | tuple[int, int, int, int] | Literal["same", "valid", "same_upper"]
"""A number for all sides; `(height, width)` for both sides of each; `(top, left, bottom, right)`; or by name.

`same` puts k//2 (times the dilation) on both sides, as torch users write it: the size is kept at stride 1, and needs an
odd kernel. `same_upper` is TensorFlow's: ceil(size / stride) outputs, the odd pixel of padding below and to the right.
`valid` is no padding.
"""

Rounding = Literal["floor", "ceil"]
"""How many windows fit: `floor` (torch's default) drops an incomplete last window, `ceil` (Caffe's) keeps it."""

Sides = tuple[int, int, int, int]


def pair(value: Pair) -> tuple[int, int]:
    """Height and width."""
    return (value, value) if isinstance(value, int) else value


def require_positive(**arguments: Pair | None) -> None:
    """Raises ArgumentError for the first argument with a number below 1."""
    for field, value in arguments.items():
        if value is not None and min(pair(value)) < 1:
            raise ArgumentError(field, f"must be at least 1, not {show_pair(value)}")


def require_padding(pad: Padding, kernel: Pair | None = None) -> None:
    """Raises ArgumentError for negative padding, and for `same` with an even kernel."""
    if pad == "same" and kernel is not None and any(k % 2 == 0 for k in pair(kernel)):
        raise ArgumentError("pad", f"same needs an odd kernel, not {_by(pair(kernel))}; same_upper pads unevenly")
    if isinstance(pad, str):
        return
    if min((pad,) if isinstance(pad, int) else pad) < 0:
        raise ArgumentError("pad", f"must not be negative, not {pad}; crop cuts borders off")


def show_pair(value: Pair) -> str:
    """`5`, or `(1, 3)`, as an author writes it."""
    return str(value) if isinstance(value, int) else f"({value[0]}, {value[1]})"


def show(shape: FeatureShape) -> str:
    """`[64, 56, 56]`, as messages show shapes."""
    return f"[{', '.join(map(str, shape))}]"


def image(keyword: str, shape: FeatureShape) -> tuple[int, int, int]:
    """Channels, height and width. Raises ShapeError for a tensor that is no image."""
    if len(shape) != 3:
        raise ShapeError(f"{keyword} needs an image [channels, height, width], not {show(shape)}")
    return shape[0], shape[1], shape[2]


def count(shape: FeatureShape) -> int:
    """The number of elements of one sample."""
    return prod(shape)


def sides(pad: Padding, size: tuple[int, int], kernel: Pair, stride: Pair = 1, dilation: Pair = 1) -> Sides:
    """Padding on top, left, bottom and right for an image of `size` (height, width)."""
    if isinstance(pad, int):
        return pad, pad, pad, pad
    if isinstance(pad, tuple):
        return pad if len(pad) == 4 else (pad[0], pad[1], pad[0], pad[1])
    before: list[int] = []
    after: list[int] = []
    for n, k, s, d in zip(size, pair(kernel), pair(stride), pair(dilation), strict=True):
        if pad == "same":
            each = d * (k - 1) // 2
            before.append(each)
            after.append(each)
        elif pad == "same_upper":
            total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            before.append(total // 2)
            after.append(total - total // 2)
        else:
            before.append(0)
            after.append(0)
    return before[0], before[1], after[0], after[1]


def window_output(
    size: tuple[int, int], kernel: Pair, stride: Pair, pad: Sides, dilation: Pair = 1, round: Rounding = "floor"
) -> tuple[int, int]:
    """Height and width of what a window that slides over an image of `size` gives.

    With `round="ceil"` a last window that would start in the padding behind the image is dropped, as torch does.
    Raises ShapeError where the window does not fit once.
    """
    outputs: list[int] = []
    for n, k, s, d, before, after in zip(
        size, pair(kernel), pair(stride), pair(dilation), pad[:2], pad[2:], strict=True
    ):
        room = n + before + after - (d * (k - 1) + 1)
        if room < 0:
            raise ShapeError(_misfit(size, pair(kernel), pair(dilation), pad))
        windows = room // s + 1
        if round == "ceil" and room % s and windows * s < n + before:
            windows += 1
        outputs.append(windows)
    return outputs[0], outputs[1]


def _misfit(size: tuple[int, int], kernel: tuple[int, int], dilation: tuple[int, int], pad: Sides) -> str:
    dilated = f" (dilated to {_by(tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)))})"
    padded = f" (padded to {size[0] + pad[0] + pad[2]}x{size[1] + pad[1] + pad[3]})"
    return (
        f"kernel {_by(kernel)}{dilated if dilation != (1, 1) else ''} does not fit into "
        f"{_by(size)}{padded if any(pad) else ''}"
    )


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
