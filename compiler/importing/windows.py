"""Kernels, strides and padding as ONNX writes them, in the shortest form of the language."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.compiler.importing.values import Refusal, Site
from dlc.compiler.layers.geometry import Padding, Pair


def plain_pair(sizes: Sequence[int]) -> Pair:
    """`3` for (3, 3), else the pair."""
    if len(sizes) != 2:
        raise Refusal(f"it is {len(sizes)}-dimensional: {list(sizes)}; images have height and width")
    return int(sizes[0]) if sizes[0] == sizes[1] else (int(sizes[0]), int(sizes[1]))


def plain_sides(sides: Sequence[int]) -> int | tuple[int, int] | tuple[int, int, int, int]:
    """`1` for padding of 1 on top, left, bottom and right; a pair where opposite sides agree."""
    top, left, bottom, right = (int(n) for n in sides)
    if (top, left) == (bottom, right):
        return top if top == left else (top, left)
    return top, left, bottom, right


def window(site: Site, attribute: str, kernel: Sequence[int]) -> Pair:
    """Strides or dilations, 1 if they are not said."""
    return plain_pair(site.attribute(attribute, (1,) * len(kernel)))


def padding(site: Site, kernel: Sequence[int]) -> Padding:
    """Padding in numbers, or `same_upper` where the node says so by name and the stride makes a difference."""
    name = site.attribute("auto_pad", "NOTSET")
    if name == "VALID":
        return 0
    if name == "SAME_LOWER" or (name == "SAME_UPPER" and all(k % 2 for k in kernel)):
        strides, dilations = (site.attribute(a, (1,) * len(kernel)) for a in ("strides", "dilations"))
        if all(s == 1 for s in strides) and all(k % 2 for k in kernel):
            each = [d * (k - 1) // 2 for k, d in zip(kernel, dilations, strict=True)]
            return plain_sides((*each, *each))
        if name == "SAME_LOWER":
            raise Refusal("its auto_pad is SAME_LOWER: the odd pixel of padding lies above and to the left")
    if name == "SAME_UPPER":
        return "same_upper"
    sides = site.attribute("pads", (0,) * (2 * len(kernel)))
    if len(sides) != 4:
        raise Refusal(f"its padding {list(sides)} is not that of an image")
    if min(sides) < 0:
        raise Refusal(f"its padding {list(sides)} is negative")
    return plain_sides(sides)
