"""Small graphs for the passes' tests."""

import numpy as np
import pytest

from dlc.compiler.interpret import interpret
from dlc.compiler.ir import Input, N, Parameter, TensorType, source
from dlc.compiler.ir.text import to_text
from dlc.compiler.ir.verify import verify


@pytest.fixture
def image():
    """image(height, width, channels): an input "image" [N, height, width, channels]."""
    return lambda *size: source(Input("image", TensorType((N, *size))))


@pytest.fixture
def weight():
    """weight(key, *shape): a parameter."""
    return lambda key, *shape: source(Parameter(key, TensorType(shape)))


@pytest.fixture
def change(golden):
    """change(before, after, name): both graphs are sound and their texts are those of the golden file."""

    def change(before, after, name):
        verify(before)
        verify(after)
        golden(f"before\n{to_text(before)}\nafter\n{to_text(after)}", f"passes/{name}.txt")

    return change


@pytest.fixture
def same():
    """same(before, after, …): both graphs compute the same outputs; `weights` are canonical, `after`'s as given or packed."""

    def same(before, after, weights, after_weights=None, batch=2):
        rng = np.random.default_rng(0)
        shapes = {v.op.key: (batch, *v.type.shape[1:]) for v in before.inputs}
        feeds = {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}
        given = dict(after_weights or weights)
        for value in after.parameters:
            if value.op.layout is not None:
                given[value.op.key] = value.op.layout.pack(given[value.op.key])
        expected, _ = interpret(before, {**feeds, **weights})
        computed, _ = interpret(after, {**feeds, **given})
        for name in expected:
            np.testing.assert_allclose(computed[name], expected[name], rtol=1e-4, atol=1e-5)

    return same


@pytest.fixture
def random():
    """random(*shape): float32 numbers, the same in every run."""
    rng = np.random.default_rng(1)
    return lambda *shape: rng.standard_normal(shape).astype(np.float32)
