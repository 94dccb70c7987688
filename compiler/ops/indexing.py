"""Shapes and index arithmetic that shape rules and lowerings share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dlc.compiler.ir import N, Shape


def count(shape: Shape) -> int:
    """The number of elements, of one sample where the first axis is the batch."""
    return math.prod(static(shape[1:] if shape[:1] == (N,) else shape))


def static(shape: Shape) -> tuple[int, ...]:
    """A shape without a batch, as ints."""
    if N in shape:
        raise ValueError(f"{show(shape)} depends on the batch")
    return tuple(int(d) for d in shape)  # type: ignore[arg-type]  # there is no batch


def show(shape: Shape) -> str:
    """[N, 28, 28, 6]"""
    return f"[{', '.join(map(str, shape))}]"


def ravel(indices: Sequence[Any], shape: Sequence[int]) -> Any:
    """The row-major position of `indices` in an array of `shape`."""
    position: Any = 0
    for index, size in zip(indices, shape, strict=True):
        position = index if isinstance(position, int) and position == 0 else position * size + index
    return position


def unravel(position: Any, shape: Sequence[int]) -> list[Any]:
    """The indices of a row-major position in an array of `shape`."""
    indices: list[Any] = []
    stride = math.prod(shape)
    for axis, size in enumerate(shape):
        outer, stride = stride, stride // size
        if size == 1:
            indices.append(0)
            continue
        index = position if axis == 0 else position % outer
        indices.append(index if stride == 1 else index // stride)
    return indices
