"""Random numbers: the published vectors, their distribution, independence of streams and steps."""

import numpy as np
import pytest

from dlc.compiler.interpret import evaluate
from dlc.compiler.ir import DType, Input, ShapeError, TensorType, source
from dlc.compiler.ops import RandomUniform, dropout, dropout_original
from dlc.compiler.ops.maths import NumpyMaths
from dlc.compiler.ops.random import random_bits

SEED, STEP = (source(Input(name, TensorType((), DType.UINT32))) for name in ("seed", "step"))


def uniform(count, stream=0, seed=0, step=0):
    return RandomUniform((count,), stream).reference(np.uint32(seed), np.uint32(step))


def test_the_numbers_of_a_seed_never_change():
    bits = (RandomUniform((4,), 3).reference(np.uint32(1), np.uint32(2)) * 2**24).astype(int)

    assert bits.tolist() == [7980190, 8492992, 16409086, 6603110]


def test_every_bit_of_seed_step_and_place_changes_half_of_the_bits():
    with np.errstate(over="ignore"):
        base = random_bits(NumpyMaths(), np.uint32(9), np.uint32(7), 1, np.arange(4096, dtype=np.uint32))
        for bit in range(32):
            flip = np.uint32(1 << bit)
            for changed in (
                random_bits(NumpyMaths(), np.uint32(9) ^ flip, np.uint32(7), 1, np.arange(4096, dtype=np.uint32)),
                random_bits(NumpyMaths(), np.uint32(9), np.uint32(7) ^ flip, 1, np.arange(4096, dtype=np.uint32)),
                random_bits(NumpyMaths(), np.uint32(9), np.uint32(7), 1, np.arange(4096, dtype=np.uint32) ^ flip),
            ):
                rates = [((base ^ changed) >> np.uint32(b) & np.uint32(1)).mean() for b in range(32)]
                assert min(rates) > 0.42 and max(rates) < 0.58


def test_numbers_are_uniform():
    numbers = uniform(200_000)

    assert numbers.dtype == np.float32 and numbers.min() >= 0 and numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.003 and abs(numbers.var() - 1 / 12) < 0.001
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.01
    assert np.histogram(numbers, 16, (0, 1))[0].std() < 4 * np.sqrt(200_000 / 16)


def test_streams_seeds_and_steps_differ_and_a_place_keeps_its_number():
    base = uniform(1000)

    for other in (uniform(1000, stream=1), uniform(1000, seed=1), uniform(1000, step=1)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.1
    np.testing.assert_array_equal(uniform(10), base[:10])
    np.testing.assert_array_equal(RandomUniform((10, 5, 20), 0).reference(np.uint32(0), np.uint32(0)).ravel(), base)


def test_seed_and_step_are_scalars():
    with pytest.raises(ShapeError, match="expected scalars of uint32"):
        RandomUniform((3,), 0).infer(TensorType((2,), DType.UINT32), TensorType((), DType.UINT32))


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_dropout_drops_p_and_keeps_the_expectation(p):
    x = source(Input("x", TensorType((100, 100))))
    feeds = {"x": np.ones((100, 100), np.float32), "seed": np.uint32(5), "step": np.uint32(9)}

    inverted, original = evaluate([dropout(x, p, 3, SEED, STEP), dropout_original(x, p, 3, SEED, STEP)], feeds)

    assert abs((inverted == 0).mean() - p) < 0.02
    np.testing.assert_allclose(original * (1 / (1 - p) if p < 1 else 0), inverted, rtol=1e-6)
