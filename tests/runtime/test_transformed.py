"""Weights that are transformed when an artifact is opened."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.ops.winograd import WinogradWeights
from dlc.runtime.arrays import aligned_empty, is_aligned
from dlc.runtime.layout import Layout
from dlc.runtime.plan import WeightSpec
from dlc.runtime.transformed import layouts_of, transformed


@pytest.mark.parametrize(
    ("outputs", "inputs", "kernel", "tile", "block"), [(6, 3, 3, 4, 4), (33, 70, 3, 2, 32), (5, 9, 5, 2, 16)]
)
def test_a_transform_makes_what_the_ops_reference_says(
    outputs: int, inputs: int, kernel: int, tile: int, block: int
) -> None:
    weight = np.random.default_rng(0).standard_normal((outputs, inputs, kernel, kernel)).astype(np.float32)
    op = WinogradWeights(outputs, inputs, kernel, tile, block)
    transform = op.transform("w")
    assert transform is not None
    result = aligned_empty(transform.shape(weight.shape), "float32")
    transform.apply(weight, result)

    np.testing.assert_allclose(result, op.reference(weight.astype(np.float64)), rtol=1e-7, atol=1e-12)


def test_transformed_weights_are_made_once_of_packed_ones_too() -> None:
    weight = np.random.default_rng(0).standard_normal((6, 3, 3, 3)).astype(np.float32)
    shape = (6, 3, 3, 3)
    layout = Layout(shape, shape, (8, 3, 3, 3), (2, 4, 3, 3, 3), (0, 3, 4, 2, 1), (2, 3, 3, 3, 4))
    transform = WinogradWeights(6, 3, 3, 2, 4).transform("w")
    assert transform is not None
    specs = (
        WeightSpec("w", layout.packed, "float32", layout),
        WeightSpec("derived.a.0", (16, 2, 3, 4), "float32", None, "derived", transform),
        WeightSpec("derived.b.0", (16, 2, 3, 4), "float32", None, "derived", transform),
    )
    made = transformed(specs, {"w": layout.pack(weight)}, layouts_of(specs))
    plain = transformed(specs, {"w": weight}, {})

    assert list(made) == [transform]
    assert is_aligned(made[transform])
    np.testing.assert_array_equal(made[transform], plain[transform])
