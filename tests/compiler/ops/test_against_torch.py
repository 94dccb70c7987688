"""References and gradients against an independent system: PyTorch and its autograd, in float64."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dlc.compiler import ops
from dlc.compiler.autodiff import gradients
from dlc.compiler.interpret import evaluate
from dlc.compiler.ir import DType, Input, TensorType, Value, source


def agree(build, reference, *arrays, rtol=1e-6, atol=1e-8):
    """`build` over values and `reference` over tensors give the same result and the same gradients."""
    operands = [source(Input(f"x{i}", TensorType(a.shape))) for i, a in enumerate(arrays)]
    result = build(*operands)
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in arrays]
    expected = reference(*tensors)
    upstream = np.random.default_rng(7).uniform(0.5, 1.5, expected.shape)
    weighted = ops.multiply(result, source(Input("upstream", result.type)))
    loss = ops.reduce_sum(weighted, range(result.type.rank)) if result.type.rank else weighted
    feeds = {f"x{i}": a.astype(np.float64) for i, a in enumerate(arrays)} | {"upstream": upstream}

    computed, *computed_gradients = evaluate([result, *gradients(loss, operands)], feeds)

    assert result.type.shape == tuple(expected.shape)
    np.testing.assert_allclose(computed, expected.detach().numpy(), rtol=rtol, atol=atol)
    expected_gradients = torch.autograd.grad((expected * torch.tensor(upstream)).sum(), tensors, allow_unused=True)
    for ours, theirs in zip(computed_gradients, expected_gradients, strict=True):
        wanted = np.zeros(ours.shape) if theirs is None else theirs.numpy()
        np.testing.assert_allclose(ours, wanted, rtol=rtol, atol=atol)


def random(*shape, low=-2.0, high=2.0, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape)


def first(x):
    """Channels last to channels first."""
    return x.permute(0, 3, 1, 2)


def last(x):
    """Channels first to channels last."""
    return x.permute(0, 2, 3, 1)


BINARY = {
    "add": (ops.add, torch.add),
    "subtract": (ops.subtract, torch.sub),
    "multiply": (ops.multiply, torch.mul),
    "divide": (ops.divide, torch.div),
    "maximum": (ops.maximum, torch.maximum),
    "minimum": (ops.minimum, torch.minimum),
    "power": (ops.power, torch.pow),
}


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 1, 3), (4, 1)), ((), (3,))], ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_arithmetic(name, shapes):
    ours, theirs = BINARY[name]
    agree(ours, theirs, *(random(*s, low=0.3, seed=i) for i, s in enumerate(shapes)))


def test_maximum_and_minimum_share_the_gradient_at_ties():
    x, y = np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])
    agree(ops.maximum, torch.maximum, x, y)
    agree(ops.minimum, torch.minimum, x, y)


UNARY = {
    "negative": (ops.negative, torch.neg),
    "exp": (ops.exp, torch.exp),
    "expm1": (ops.expm1, torch.expm1),
    "tanh": (ops.tanh, torch.tanh),
    "sigmoid": (ops.sigmoid, torch.sigmoid),
    "erf": (ops.erf, torch.erf),
    "absolute": (ops.absolute, torch.abs),
    "sign": (ops.sign, torch.sign),
    "floor": (ops.floor, torch.floor),
    "relu": (ops.relu, torch.relu),
    "clip": (lambda x: ops.clip(x, -1.0, 0.5), lambda x: torch.clamp(x, -1.0, 0.5)),
    "detach": (ops.detach, torch.detach),
    "square": (ops.square, torch.square),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.1), lambda x: F.leaky_relu(x, 0.1)),
    "relu6": (ops.relu6, F.relu6),
    "elu": (lambda x: ops.elu(x, 0.7), lambda x: F.elu(x, 0.7)),
    "selu": (ops.selu, F.selu),
    "gelu": (ops.gelu, F.gelu),
    "gelu_tanh": (ops.gelu_tanh, lambda x: F.gelu(x, approximate="tanh")),
    "silu": (ops.silu, F.silu),
    "softplus": (ops.softplus, F.softplus),
    "softsign": (ops.softsign, F.softsign),
    "mish": (ops.mish, F.mish),
    "hard_sigmoid": (ops.hard_sigmoid, F.hardsigmoid),
    "hard_swish": (ops.hard_swish, F.hardswish),
    "scaled_tanh": (ops.scaled_tanh, lambda x: 1.7159 * torch.tanh(x * 2 / 3)),
    "softmax": (ops.softmax, lambda x: torch.softmax(x, -1)),
    "log_softmax": (ops.log_softmax, lambda x: torch.log_softmax(x, -1)),
}


@pytest.mark.parametrize("name", UNARY)
def test_functions(name):
    ours, theirs = UNARY[name]
    rtol = 1e-6 if name not in ("gelu", "gelu_tanh", "scaled_tanh", "selu", "elu", "leaky_relu") else 1e-5
    if name == "detach":
        theirs = lambda x: x.detach() + 0 * x  # noqa: E731
    agree(ours, theirs, random(3, 17, low=-5.0, high=5.0), rtol=rtol)


@pytest.mark.parametrize("name", sorted(set(UNARY) - {"square", "exp", "expm1", "detach", "negative", "floor"}))
def test_functions_of_large_operands_stay_finite_and_right(name):
    ours, theirs = UNARY[name]
    x = np.array([[-1e4, -300.0, -90.0, -30.0, 30.0, 90.0, 300.0, 1e4]], np.float32)
    value = source(Input("x", TensorType(x.shape)))
    result = ours(value)
    loss = ops.reduce_sum(result, (0, 1))
    tensor = torch.tensor(x, requires_grad=True)
    expected = theirs(tensor)
    expected.sum().backward()

    computed, gradient = evaluate([result, *gradients(loss, [value])], {"x": x})

    assert computed.dtype == gradient.dtype == np.float32
    np.testing.assert_allclose(computed, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["relu", "absolute", "clip", "leaky_relu", "softplus", "elu"])
def test_functions_at_their_kinks(name):
    ours, theirs = UNARY[name]
    agree(ours, theirs, np.array([-1.0, 0.0, 0.5, 6.0]), rtol=1e-5)


def test_roots_and_logarithms():
    for ours, theirs in ((ops.sqrt, torch.sqrt), (ops.log, torch.log), (ops.log1p, torch.log1p)):
        agree(ours, theirs, random(3, 5, low=0.01, high=9.0))


def test_small_operands_keep_their_digits():
    for ours, theirs in ((ops.log1p, torch.log1p), (ops.expm1, torch.expm1)):
        x = np.array([1e-9, -3e-7, 2e-5, 1e-3, -1e-3, 0.0], np.float32)

        (computed,) = evaluate([ours(source(Input("x", TensorType(x.shape))))], {"x": x})

        np.testing.assert_allclose(computed, theirs(torch.tensor(x)).numpy(), rtol=1e-6)


def test_comparisons_and_where():
    pairs = [
        (ops.equal, torch.eq),
        (ops.greater, torch.gt),
        (ops.greater_equal, torch.ge),
        (ops.less, torch.lt),
        (ops.less_equal, torch.le),
    ]
    x, y = np.array([1.0, 2.0, 3.0]), np.array([[2.0], [3.0]])
    for ours, theirs in pairs:
        agree(
            lambda a, b, ours=ours: ops.where(ours(a, b), ops.multiply(a, 2.0), b),
            lambda a, b, theirs=theirs: torch.where(theirs(a, b), a * 2, b),
            x,
            y,
        )


def test_casts_round_towards_zero():
    x = np.array([-1.7, -0.2, 0.9, 2.5], np.float32)

    (computed,) = evaluate([ops.cast(source(Input("x", TensorType(x.shape))), DType.INT32)], {"x": x})

    assert computed.tolist() == torch.tensor(x).to(torch.int32).tolist()


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2), (-1,)], ids=str)
def test_reductions(axes, keep):
    pairs = [
        (ops.reduce_sum, torch.sum),
        (ops.mean, torch.mean),
        (ops.reduce_max, torch.amax),
        (ops.reduce_min, torch.amin),
    ]
    for ours, theirs in pairs:
        x = np.round(random(3, 4, 5))  # with ties
        agree(lambda v, ours=ours: ours(v, axes, keep), lambda v, f=theirs: f(v, axes, keepdim=keep), x)


CONVOLUTIONS = [
    # channels, image (H, W, C), kernel, stride, padding, dilation, groups
    (6, (5, 7, 3), (3, 3), 1, 1, 1, 1),
    (4, (8, 6, 2), (5, 3), (2, 1), (2, 1), (1, 2), 1),
    (6, (9, 9, 4), 3, 2, 0, 2, 2),
    (8, (6, 5, 8), 3, 1, 1, 1, 8),
    (5, (4, 4, 3), 1, 2, 0, 1, 1),
    (3, (7, 5, 2), (1, 3), 1, (0, 2, 3, 1), 1, 1),
]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution(case):
    channels, image, kernel, stride, padding, dilation, groups = case
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    top, left, bottom, right = ops.convolution.sides(padding)

    def ours(x, w, b):
        return ops.add(ops.conv2d(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups), b)

    def theirs(x, w, b):
        x = F.pad(first(x), (left, right, top, bottom))
        return last(F.conv2d(x, w, b, stride=stride, dilation=dilation, groups=groups))

    agree(ours, theirs, random(2, *image), random(channels, image[2] // groups, *kernel), random(channels))


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_the_input_gradient_is_the_transposed_convolution(case):
    channels, (height, width, inputs), kernel, stride, _, dilation, groups = case
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    size = ops.Conv2d(channels, kernel, ops.convolution.pair(stride), dilation=ops.convolution.pair(dilation))
    rows, columns = size.output_size(height, width)

    def ours(y, w):
        return ops.conv2d_input_gradient(y, w, (height, width, inputs), stride=stride, dilation=dilation, groups=groups)

    def theirs(y, w):
        full = F.conv_transpose2d(first(y), w, stride=stride, dilation=dilation, groups=groups)
        return last(F.pad(full, (0, width - full.shape[3], 0, height - full.shape[2])))

    agree(ours, theirs, random(2, rows, columns, channels), random(channels, inputs // groups, *kernel))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_packed_convolution_is_the_canonical_one(groups):
    plain = ops.Conv2d(6, (3, 3), padding=(1, 1, 1, 1), groups=groups)
    packed = ops.Conv2d(6, (3, 3), padding=(1, 1, 1, 1), groups=groups, block=4)
    x, w, dy = random(2, 5, 5, 4), random(6, 4 // groups, 3, 3), random(2, 5, 5, 6)
    blocks = packed._packed(w)

    assert blocks.shape == packed.weight_shape(4)
    np.testing.assert_array_equal(packed._canonical(blocks), w)
    np.testing.assert_allclose(packed.reference(x, blocks), plain.reference(x, w))
    gradient = [ops.Conv2dWeightGradient(**op.attributes(), in_channels=4).reference(x, dy) for op in (plain, packed)]
    np.testing.assert_allclose(packed._canonical(gradient[1]), gradient[0])
    inputs = [
        ops.Conv2dInputGradient(**op.attributes(), input_size=(5, 5, 4)).reference(dy, weight)
        for op, weight in ((plain, w), (packed, blocks))
    ]
    np.testing.assert_allclose(inputs[1], inputs[0])


def test_linear():
    agree(lambda x, w, b: ops.add(ops.linear(x, w), b), F.linear, random(3, 7), random(5, 7), random(5))


def test_a_packed_linear_is_the_canonical_one():
    plain, packed = ops.Linear(5), ops.Linear(5, 4)
    x, w = random(3, 7), random(5, 7)
    blocks = packed._packed(w)

    assert blocks.shape == packed.weight_shape(7) == (2, 7, 4)
    np.testing.assert_allclose(packed.reference(x, blocks), plain.reference(x, w))


def test_shapes():
    x = random(2, 3, 4, 5)
    agree(lambda v: ops.reshape(v, (2, 60)), lambda v: v.reshape(2, 60), x)
    agree(lambda v: ops.transpose(v, (0, 3, 1, 2)), lambda v: v.permute(0, 3, 1, 2), x)
    agree(ops.flatten, lambda v: first(v).flatten(1), x)
    agree(lambda v: ops.broadcast_to(v, (4, 2, 3)), lambda v: v.expand(4, 2, 3), random(2, 1))
    agree(lambda v: ops.pad(v, (0, 1, 2, 0), (0, 0, 1, 3), -0.5), lambda v: F.pad(v, (0, 3, 2, 1, 1, 0), value=-0.5), x)
    agree(
        lambda v: ops.strided_slice(v, (0, 1, 0, 1), (None, 3, None, 5), (1, 1, 2, 3)),
        lambda v: v[:, 1:3, ::2, 1:5:3],
        x,
    )
    agree(lambda *v: ops.concat(v, -1), lambda *v: torch.cat(v, -1), random(2, 3), random(2, 1), random(2, 4))
    agree(lambda v: ops.upsample(v, (2, 3)), lambda v: last(F.interpolate(first(v), scale_factor=(2.0, 3.0))), x)


def test_one_hot():
    labels = np.array([2, 0, 3], np.int32)

    (computed,) = evaluate([ops.one_hot(source(Input("x", TensorType((3,), DType.INT32))), 4)], {"x": labels})

    np.testing.assert_array_equal(computed, F.one_hot(torch.tensor(labels, dtype=torch.int64), 4).numpy())


def test_batch_norm_of_training():
    for shape in ((3, 4, 5, 6), (7, 6)):
        channels_first = (lambda v: v) if len(shape) == 2 else first
        channels_last = (lambda v: v) if len(shape) == 2 else last
        agree(
            lambda x, g, b: ops.batch_norm_training(x, g, b, 1e-3)[0],
            lambda x, g, b, to=channels_first, back=channels_last: back(
                F.batch_norm(to(x), None, None, g, b, training=True, eps=1e-3)
            ),
            random(*shape) + 3.0,
            random(6),
            random(6, seed=1),
            rtol=1e-5,
            atol=1e-6,
        )


def test_batch_statistics():
    x = random(3, 4, 5, 6)
    value = source(Input("x", TensorType(x.shape)))
    one = ops.constant(np.ones(6))

    _, mean, variance = ops.batch_norm_training(value, one, one)
    computed = evaluate([mean, variance], {"x": x})

    np.testing.assert_allclose(computed[0], x.mean((0, 1, 2)))
    np.testing.assert_allclose(computed[1], x.var((0, 1, 2)))


def test_batch_norm_of_inference():
    agree(
        lambda x, g, b, m, v: ops.batch_norm_inference(x, g, b, m, v, 1e-3),
        lambda x, g, b, m, v: (x - m) / torch.sqrt(v + 1e-3) * g + b,
        random(2, 3, 4, 5),
        random(5, seed=1),
        random(5, seed=2),
        random(5, seed=3),
        random(5, low=0.2, seed=4),
        rtol=1e-5,
    )


def test_the_other_norms():
    x, g, b = random(3, 4, 5, 6), random(6, seed=1), random(6, seed=2)
    agree(
        lambda x, g, b: ops.group_norm(x, g, b, 3),
        lambda x, g, b: last(F.group_norm(first(x), 3, g, b)),
        x, g, b,
    )  # fmt: skip
    agree(ops.instance_norm, lambda x, g, b: last(F.instance_norm(first(x), weight=g, bias=b)), x, g, b)
    whole = (random(4, 5, 6, seed=1), random(4, 5, 6, seed=2))
    agree(ops.layer_norm, lambda x, g, b: F.layer_norm(x, (4, 5, 6), g, b), x, *whole)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_local_response_norm(size):
    agree(
        lambda x: ops.local_response_norm(x, size, 0.1 / size, 0.75, 2.0),
        lambda x: last(F.local_response_norm(first(x), size, 0.1, 0.75, 2.0)),
        random(2, 3, 3, 7),
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (6, 5), (4, 4), (3, 9)], ids=str)
def test_adaptive_average_pool(size):
    agree(
        lambda x: ops.adaptive_avg_pool(x, size),
        lambda x: last(F.adaptive_avg_pool2d(first(x), size)),
        random(2, 6, 9, 2),
    )


def test_global_pools():
    agree(ops.global_avg_pool, lambda x: x.mean((1, 2)), random(2, 3, 4, 5))
    agree(ops.global_max_pool, lambda x: x.amax((1, 2)), random(2, 3, 4, 5))


def test_cross_entropy_and_squares():
    targets = np.eye(5)[[1, 4, 0]] * 0.9 + 0.02
    agree(
        lambda x, t: ops.mean(ops.cross_entropy(x, t), 0),
        lambda x, t: F.cross_entropy(x, t),
        random(3, 5) * 10,
        targets,
    )
    agree(ops.mean_squared_error, F.mse_loss, random(3, 5), random(3, 5, seed=1))


def test_prelu():
    agree(ops.prelu, lambda x, s: last(F.prelu(first(x), s)), random(2, 3, 4, 5), random(5, low=0.1, high=0.4))


def test_values_of_a_graph_are_shared_between_uses():
    def build(x: Value, _=None):
        y = ops.tanh(x)
        return ops.add(ops.multiply(y, x), ops.add(y, y))

    agree(build, lambda x: torch.tanh(x) * x + 2 * torch.tanh(x), random(3, 4))
