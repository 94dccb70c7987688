"""Products over paired weights, compared with float32 products of factors that ml_dtypes rounded, on every way to compute them."""

import ml_dtypes
import numpy as np
import pytest

from dlc.compiler.codegen import compile_graph
from dlc.compiler.codegen.target import Target
from dlc.compiler.ir import DType, Graph, Input, N, Parameter, TensorType, apply, source
from dlc.compiler.ops.convolution import Conv2d
from dlc.compiler.ops.elementwise import add, cast
from dlc.compiler.ops.functions import relu
from dlc.compiler.ops.linear import Linear
from dlc.compiler.ops.paired import PairedConv2d, PairedLinear, can_pair, convolution_layout, linear_layout
from dlc.compiler.panel import choose
from dlc.runtime.arrays import aligned_copy
from dlc.runtime.device import cpu_features
from dlc.runtime.executor import Executor

HALF = DType.BFLOAT16
TARGETS = {  # by the way in which panels are computed
    "tiles": ("cpu:sapphirerapids", {"amx-bf16"}),
    "dots": ("cpu:cooperlake", {"avx512bf16"}),
    "widened": ("x86-64-v3", {"avx2", "fma"}),
}
CONVOLUTIONS = [
    (Conv2d(6, (5, 5), padding=(2, 2, 2, 2)), (9, 7, 1)),
    (Conv2d(33, (3, 3), padding=(1, 1, 1, 1)), (7, 7, 40)),
    (Conv2d(8, (7, 7), (2, 2), (3, 3, 3, 3)), (21, 37, 3)),
    (Conv2d(40, (1, 1)), (7, 7, 64)),
    (Conv2d(40, (1, 1)), (6, 23, 64)),
    (Conv2d(40, (1, 1)), (3, 101, 32)),
    (Conv2d(40, (1, 1)), (5, 23, 33)),
    (Conv2d(35, (3, 2), (2, 1), (1, 0, 0, 2), (2, 1)), (10, 11, 17)),
    (Conv2d(64, (3, 3), padding=(1, 1, 1, 1), groups=2), (6, 5, 64)),
    (Conv2d(32, (3, 3), padding=(2, 2, 2, 2), dilation=(2, 2)), (6, 8, 32)),
    (Conv2d(32, (3, 3), padding=(1, 1, 1, 1)), (20, 61, 32)),
]


def run(graph, target, weights, feeds, batch):
    compiled = compile_graph(graph, Target.parse(target), batch=batch)
    memory = {
        s.name: aligned_copy(s.layout.pack(weights[s.name]) if s.layout else weights[s.name])
        for s in compiled.program.weights
    }
    return Executor(compiled.program, compiled.function, memory).run(feeds)


def rounded(rng, *shape):
    return rng.standard_normal(shape).astype(ml_dtypes.bfloat16)


def runs_here(way):
    return TARGETS[way][1] <= (cpu_features() or set())


@pytest.mark.parametrize("way", TARGETS)
def test_convolutions_equal_float32_sums_of_rounded_factors(way):
    rng = np.random.default_rng(0)
    inputs, outputs, feeds, weights, expected = [], {}, {}, {}, {}
    for number, (op, (height, width, channels)) in enumerate(CONVOLUTIONS):
        assert can_pair(op, channels)
        x, w = rounded(rng, 2, height, width, channels), rounded(rng, *op.weight_shape(channels))
        layout = convolution_layout(op, channels)
        image = source(Input(f"x{number}", TensorType((2, height, width, channels))))
        weight = source(Parameter(f"w{number}", TensorType(layout.packed, HALF), layout=layout))
        inputs.append(image)
        outputs[f"y{number}"] = apply(PairedConv2d(op), cast(image, HALF), weight)
        feeds[f"x{number}"], weights[f"w{number}"] = x.astype(np.float32), w
        expected[f"y{number}"] = op.reference(x.astype(np.float64), w.astype(np.float64))
        assert np.array_equal(layout.unpack(layout.pack(w)), w)
    graph = Graph("convolutions", tuple(inputs), outputs)

    if not runs_here(way):
        assert compile_graph(graph, Target.parse(TARGETS[way][0]), batch=2).library()
        pytest.skip("compiled; this processor cannot run it")
    results = run(graph, TARGETS[way][0], weights, feeds, 2)

    for name, array in expected.items():
        np.testing.assert_allclose(results[name], array, rtol=1e-5, atol=2e-6 * np.abs(array).max(), err_msg=name)


@pytest.mark.parametrize("way", TARGETS)
@pytest.mark.parametrize("batch", [1, 5, None])
def test_linear_layers_equal_float32_sums_of_rounded_factors(way, batch):
    if not runs_here(way):
        pytest.skip("this processor cannot run it")
    rng = np.random.default_rng(1)
    count = batch or 37
    inputs, outputs, feeds, weights, expected = [], {}, {}, {}, {}
    for number, (features, width) in enumerate([(5, 7), (1, 33), (40, 64), (33, 100)]):
        x, w = rounded(rng, count, width), rounded(rng, features, width)
        layout = linear_layout(features, width)
        given = source(Input(f"x{number}", TensorType((batch or N, width))))
        weight = source(Parameter(f"w{number}", TensorType(layout.packed, HALF), layout=layout))
        inputs.append(given)
        outputs[f"y{number}"] = apply(PairedLinear(features), cast(given, HALF), weight)
        feeds[f"x{number}"], weights[f"w{number}"] = x.astype(np.float32), w
        expected[f"y{number}"] = Linear(features).reference(x.astype(np.float64), w.astype(np.float64))

    results = run(Graph("linear", tuple(inputs), outputs), TARGETS[way][0], weights, feeds, batch)

    for name, array in expected.items():
        np.testing.assert_allclose(results[name], array, rtol=1e-5, atol=2e-6 * np.abs(array).max(), err_msg=name)


def test_what_stands_behind_a_convolution_is_fused_and_rounded_as_ml_dtypes_does():
    rng = np.random.default_rng(2)
    op = Conv2d(48, (3, 3), padding=(1, 1, 1, 1))
    x, w = rounded(rng, 1, 14, 14, 32), rounded(rng, *op.weight_shape(32))
    bias = rng.standard_normal(48).astype(np.float32)
    layout = convolution_layout(op, 32)
    image = source(Input("x", TensorType((1, 14, 14, 32))))
    weight = source(Parameter("w", TensorType(layout.packed, HALF), layout=layout))
    total = add(apply(PairedConv2d(op), cast(image, HALF), weight), source(Parameter("b", TensorType((48,)))))
    graph = Graph("g", (image,), {"y": cast(cast(relu(total), HALF), DType.FLOAT32)})

    result = run(graph, "cpu", {"w": w, "b": bias}, {"x": x.astype(np.float32)}, 1)["y"]

    exact = np.maximum(op.reference(x.astype(np.float32), w.astype(np.float32)) + bias, 0)
    near = exact.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(result, result.astype(ml_dtypes.bfloat16).astype(np.float32))
    assert (result != near).mean() < 0.01  # sums in another order fall on the other side of a tie now and then
    np.testing.assert_allclose(result, near, rtol=2**-7)


@pytest.mark.parametrize("native", ["x86-64-v3", "cpu"])
def test_rounding_to_bfloat16_is_ml_dtypes_rounding(native):
    rng = np.random.default_rng(3)
    x = (rng.standard_normal(4099) * 10.0 ** rng.integers(-30, 30, 4099)).astype(np.float32)
    x[:7] = [0.0, -0.0, np.inf, -np.inf, np.nan, 1 + 2**-8, 1 + 3 * 2**-8]
    given = source(Input("x", TensorType((4099,))))
    graph = Graph("g", (given,), {"y": cast(cast(given, HALF), DType.FLOAT32)})

    result = run(graph, native, {}, {"x": x}, None)["y"]

    np.testing.assert_array_equal(result, x.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_every_panel_fits_in_eight_tiles():
    for rows in (1, 3, 7, 14, 56):
        for columns in (1, 5, 13, 23, 49, 56, 196, 224, 3136):
            panel = choose(rows, columns)
            sizes = len(set(panel.tiles))
            assert max(panel.tiles) <= 16 and sum(panel.tiles) == panel.wide
            assert len(panel.all_tiles) + (sizes if len(panel.all_tiles) > 2 else 0) < 8
