"""Weights that an artifact's file does not hold: what transforms make of those that it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dlc.runtime import threads
from dlc.runtime.arrays import aligned_empty
from dlc.runtime.layout import Layout, Transform
from dlc.runtime.plan import WeightSpec


def layouts_of(specs: Sequence[WeightSpec]) -> dict[str, Layout]:
    """The layouts of packed weights, by name."""
    return {spec.name: spec.layout for spec in specs if spec.layout is not None}


def transformed(
    specs: Sequence[WeightSpec], stored: Mapping[str, np.ndarray], layouts: Mapping[str, Layout]
) -> dict[Transform, np.ndarray]:
    """The weights of `specs` that have a transform, made of the stored ones on all cores, aligned for kernels.

    `layouts` are those of packed ones among the stored, by name.
    """
    wanted = list(dict.fromkeys(spec.transform for spec in specs if spec.transform is not None))
    if not wanted:
        return {}
    from concurrent.futures import ThreadPoolExecutor  # 5 ms that models without any never need

    def make(transform: Transform) -> np.ndarray:
        weight, layout = stored[transform.source], layouts.get(transform.source)
        weight = weight if layout is None else layout.unpack(weight)
        result = aligned_empty(transform.shape(weight.shape), weight.dtype)
        transform.apply(weight, result)
        return result

    with ThreadPoolExecutor(threads.available()) as pool:
        return dict(zip(wanted, pool.map(make, wanted), strict=True))
