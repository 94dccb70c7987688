"""Random numbers: the published vectors, their distribution, independence of streams and steps."""

import numpy as np
import pytest

from dlc.compiler.interpret import evaluate
from dlc.compiler.ir import DType, Input, ShapeError, TensorType, source
from dlc.compiler.ops import RandomUniform, dropout, dropout_original
from dlc.compiler.ops.maths import NumpyMaths
from dlc.compiler.ops.random import threefry

SEED, STEP = (source(Input(name, TensorType((), DType.UINT32))) for name in ("seed", "step"))


def uniform(count, stream=0, seed=0, step=0):
    return RandomUniform((count,), stream).reference(np.uint32(seed), np.uint32(step))


@pytest.mark.parametrize(
    ("counter", "key", "word"),
    [
        ((0x00000000, 0x00000000), (0x00000000, 0x00000000), 0x6B200159),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), 0x1CB996FC),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), 0xC4923A9C),
    ],
)
def test_threefry_gives_the_published_vectors(counter, key, word):
    """Known answers of the Random123 library for threefry2x32 with 20 rounds."""
    with np.errstate(over="ignore"):
        result = threefry(NumpyMaths(), tuple(map(np.uint32, key)), tuple(map(np.uint32, counter)))

    assert int(result) == word


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
