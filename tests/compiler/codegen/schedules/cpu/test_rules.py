"""Every rule against the ops' references: odd sizes, several batches fixed and symbolic, ops fused behind, other targets."""

import pytest

from dlc.compiler.ir import N, TensorType
from dlc.compiler.ops import (
    Add,
    AvgPool,
    AvgPoolGradient,
    Conv2d,
    Conv2dInputGradient,
    Conv2dWeightGradient,
    Linear,
    LinearInputGradient,
    LinearWeightGradient,
    Max,
    MaxPool,
    MaxPoolGradient,
    Mean,
    MinPoolGradient,
    Multiply,
    Relu,
    Sum,
    Tanh,
    Transpose,
)

FIXED = ((1, "cpu"), (3, "x86-64-v3"))
"""Batches that kernels are compiled for, each on one of the targets that run here."""


def floats(*shape):
    return TensorType(shape)


def conv(channels, kernel, image, **options):
    op = Conv2d(channels, kernel, **options)
    return op, (floats(N, *image), floats(*op.weight_shape(image[2])))


CONVOLUTIONS = {
    "lenet 1": conv(6, (5, 5), (32, 32, 1), block=16),
    "lenet 2": conv(16, (5, 5), (14, 14, 6), block=16),
    "3x3 same, odd": conv(33, (3, 3), (7, 9, 17), padding=(1, 1, 1, 1), block=32),
    "3x3, 27 columns": conv(32, (3, 3), (3, 29, 5), block=32),
    "3x3, prime columns": conv(16, (3, 3), (5, 31, 3), padding=(1, 1, 1, 1), block=16),
    "stride 2": conv(32, (3, 3), (15, 15, 8), stride=(2, 2), padding=(1, 1, 1, 1), block=32),
    "7x7 stride 2": conv(64, (7, 7), (33, 37, 3), stride=(2, 2), padding=(3, 3, 3, 3), block=32),
    "1x1": conv(48, (1, 1), (7, 7, 20), block=16),
    "1x1 stride 2": conv(32, (1, 1), (14, 14, 16), stride=(2, 2), block=32),
    "dilated, uneven": conv(16, (3, 2), (9, 11, 4), padding=(2, 0, 1, 1), dilation=(2, 3), block=16),
    "groups": conv(32, (3, 3), (6, 6, 8), padding=(1, 1, 1, 1), groups=2, block=16),
    "depthwise": conv(24, (3, 3), (6, 6, 24), padding=(1, 1, 1, 1), groups=24),
    "canonical weight": conv(10, (3, 3), (6, 6, 3)),
    "wide blocks": conv(64, (3, 3), (4, 4, 16), padding=(1, 1, 1, 1), block=32),
}


def forward_result(op, types):
    return op.infer(*types)


def input_gradient(op, types):
    _, height, width, channels = types[0].shape
    own = Conv2dInputGradient(**op.attributes(), input_size=(height, width, channels))
    return own, (forward_result(op, types), types[1])


def weight_gradient(op, types):
    own = Conv2dWeightGradient(**op.attributes(), in_channels=types[0].shape[3])
    return own, (types[0], forward_result(op, types))


def behind(op, types, kind):
    """What is fused behind an op: nothing, a bias and an activation, or a residual besides."""
    result = op.infer(*types)
    bias = floats(result.shape[-1])
    return {
        "plain": (),
        "bias": ((Add(), (bias,)), (Tanh(), ())),
        "residual": ((Multiply(), (bias,)), (Add(), (bias,)), (Add(), (result,)), (Relu(), ())),
    }[kind]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_of_any_batch(check, chain, name):
    op, types = CONVOLUTIONS[name]

    check(chain(op, types, behind(op, types, "residual")))


@pytest.mark.parametrize("name", ["lenet 1", "3x3, 27 columns", "stride 2", "groups"])
def test_convolution_with_nothing_behind(check, chain, name):
    check(chain(*CONVOLUTIONS[name]))


@pytest.mark.parametrize(("batch", "target"), FIXED)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_of_a_fixed_batch(check, chain, name, batch, target):
    op, types = CONVOLUTIONS[name]

    check(chain(op, types, behind(op, types, "bias")), batch, target=target)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_gradient_of_a_convolution_by_its_input(check, chain, name):
    op, types = input_gradient(*CONVOLUTIONS[name])

    check(chain(op, types, ((Multiply(), (op.infer(*types),)),)), samples=(1, 3))
    check(chain(op, types), 4)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_gradient_of_a_convolution_by_its_weight(check, chain, name):
    op, types = weight_gradient(*CONVOLUTIONS[name])

    check(chain(op, types), 5)


def test_gradient_of_a_convolution_by_its_weight_for_one_sample_and_any_number(check, chain):
    op, types = weight_gradient(*CONVOLUTIONS["3x3 same, odd"])

    check(chain(op, types), 1)
    check(chain(op, types), samples=(1, 3))


def test_weight_gradients_of_many_samples_are_cut_into_parts(check, chain):
    for name in ("lenet 1", "lenet 2", "stride 2"):
        op, types = weight_gradient(*CONVOLUTIONS[name])

        check(chain(op, types, ((Multiply(), (op.infer(*types),)),)), 24)


LINEAR = {"10": (10, 84, 16), "84": (84, 120, 32), "120": (120, 400, 32), "1": (1, 7, 16), "canonical": (33, 12, 0)}


def linear(name):
    features, inputs, block = LINEAR[name]
    op = Linear(features, block)
    return op, (floats(N, inputs), floats(*op.weight_shape(inputs)))


@pytest.mark.parametrize(("batch", "target"), [(None, "cpu"), *FIXED])
@pytest.mark.parametrize("name", LINEAR)
def test_linear(check, chain, name, batch, target):
    op, types = linear(name)

    check(chain(op, types, behind(op, types, "bias")), batch, samples=(1, 2, 7, 17), target=target)


@pytest.mark.parametrize("batch", [None, 6])
@pytest.mark.parametrize("name", LINEAR)
def test_gradients_of_linear(check, chain, name, batch):
    op, (x, weight) = linear(name)
    upstream = op.infer(x, weight)
    by_input = LinearInputGradient(op.features, op.block, features_in=x.shape[1])

    check(chain(by_input, (upstream, weight), ((Multiply(), (x,)),)), batch, samples=(1, 9))
    check(chain(LinearWeightGradient(op.features, op.block), (x, upstream)), batch, samples=(1, 9))


POOLS = {
    "2x2": ({"kernel": (2, 2), "stride": (2, 2)}, (28, 28, 6)),
    "3x3 stride 2": ({"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}, (9, 11, 33)),
    "same, ceil": ({"kernel": (3, 3), "stride": (1, 2), "padding": (1, 1, 1, 1), "ceil": True}, (5, 6, 64)),
    "large": ({"kernel": (7, 7), "stride": (7, 7)}, (7, 7, 130)),
    "gaps": ({"kernel": (1, 2), "stride": (3, 3), "count_padding": False}, (7, 8, 3)),
}


@pytest.mark.parametrize(("name", "batch"), [*((name, None) for name in POOLS), ("2x2", 1)])
def test_pools_and_their_gradients(check, chain, name, batch):
    options, size = POOLS[name]
    image = floats(N, *size)
    for kind in (MaxPool, AvgPool):
        op = kind(**options)
        result = op.infer(image)
        check(chain(op, (image,), ((Add(), (result,)),)), batch, samples=(1, 3))
    for kind in (MinPoolGradient,) if name == "gaps" else (MaxPoolGradient,):
        check(chain(kind(**options), (image, result), ((Multiply(), (image,)),)), batch, samples=(1, 3))
    check(chain(AvgPoolGradient(**options, input_size=size[:2]), (result,)), batch, samples=(1, 3))


REDUCTIONS = {
    "rows": ((N, 10), (1,)),
    "long rows": ((N, 1000), (1,)),
    "statistics": ((N, 9, 7, 33), (0, 1, 2)),
    "statistics, vectors": ((N, 28, 28, 64), (0, 1, 2)),
    "pixels": ((N, 7, 7, 48), (1, 2)),
    "all": ((N, 5, 7), (0, 1, 2)),
    "columns": ((N, 84), (0,)),
    "middle": ((N, 3, 5), (1,)),
    "prime row": ((N, 131), (1,)),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(check, chain, name):
    shape, axes = REDUCTIONS[name]

    check(chain(Sum(axes), (floats(*shape),), ((Tanh(), ()),)), samples=(1, 3))
    check(chain(Max(axes), (floats(*shape),)), 1)
    check(chain(Mean(axes, keep=True), (floats(*shape),), ((Tanh(), ()),)), 16)


@pytest.mark.parametrize("batch", [None, 64])
def test_maps_with_broadcasting(check, chain, batch):
    for shape, other in (
        ((N, 84), (84,)),
        ((N, 7, 5, 6), (N, 1, 1, 6)),
        ((N, 28, 28, 6), (6,)),
        ((N, 3), (N, 1)),
        ((N, 64, 64), ()),
    ):
        check(chain(Add(), (floats(*shape), floats(*other)), ((Tanh(), ()),)), batch, samples=(1, 3))
    check(chain(Transpose((0, 2, 3, 1)), (floats(N, 3, 9, 11),)), batch, samples=(1, 3))


THREADS = {
    "convolution": CONVOLUTIONS["lenet 2"],
    "strided gradient": input_gradient(*CONVOLUTIONS["stride 2"]),
    "weight gradient, parts": weight_gradient(*CONVOLUTIONS["lenet 2"]),
    "weight gradient, whole": weight_gradient(*conv(256, (3, 3), (5, 5, 256), padding=(1, 1, 1, 1), block=32)),
    "statistics": (Sum((0, 1, 2)), (floats(N, 28, 28, 64),)),
    "total": (Sum((0, 1, 2)), (floats(N, 100, 33),)),
    "linear": linear("120"),
}


@pytest.mark.parametrize("name", THREADS)
def test_results_do_not_depend_on_the_number_of_threads(check_threads, chain, name):
    op, types = THREADS[name]

    check_threads(chain(op, types), 24, batch=24)


@pytest.mark.parametrize("target", ["aarch64", "x86-64-v4"])
def test_kernels_compile_for_other_processors(compile_for, chain, target):
    for op, types in (
        CONVOLUTIONS["3x3 same, odd"],
        input_gradient(*CONVOLUTIONS["stride 2"]),
        weight_gradient(*CONVOLUTIONS["lenet 1"]),
        linear("84"),
        (MaxPool((2, 2), (2, 2)), (floats(N, 8, 8, 6),)),
        (Sum((0, 1, 2)), (floats(N, 28, 28, 64),)),
    ):
        compile_for(chain(op, types), target, 4)
