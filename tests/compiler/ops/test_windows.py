"""Pools, pads and broadcasting of random geometry against PyTorch."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dlc.compiler.ir import ShapeError, TensorType
from dlc.compiler.ops import (
    Add,
    AvgPool,
    AvgPoolGradient,
    Conv2d,
    MaxPool,
    MaxPoolGradient,
    MaxPoolPlaces,
    MinPool,
    MinPoolGradient,
    Pad,
    PlacedGradient,
)

sizes = st.integers(1, 9)
kernels = st.integers(1, 4)
strides = st.integers(1, 3)


def image(*shape):
    generator = np.random.default_rng(3)
    return generator.integers(-3, 4, shape).astype(np.float64)  # with ties


def channels_first(x):
    return torch.tensor(x).permute(0, 3, 1, 2).requires_grad_()


@st.composite
def geometries(draw):
    size = draw(st.tuples(sizes, sizes))
    kernel = draw(st.tuples(kernels, kernels))
    stride = draw(st.tuples(strides, strides))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    assume(all(n + 2 * p >= k for n, p, k in zip(size, padding, kernel, strict=True)))
    return size, kernel, stride, padding, draw(st.booleans()), draw(st.booleans())


@settings(max_examples=150, deadline=None)
@given(geometries())
def test_average_pools_are_pytorchs(geometry):
    size, kernel, stride, padding, ceil, counted = geometry
    x = image(2, *size, 3)
    op = AvgPool(kernel, stride, (*padding, *padding), ceil, counted)
    tensor = channels_first(x)
    expected = F.avg_pool2d(tensor, kernel, stride, padding, ceil, counted)
    upstream = np.random.default_rng(4).uniform(-1, 1, expected.permute(0, 2, 3, 1).shape)
    expected.backward(channels_first(upstream).detach())

    np.testing.assert_allclose(op.reference(x), expected.detach().permute(0, 2, 3, 1).numpy())
    gradient = AvgPoolGradient(**op.attributes(), input_size=size).reference(upstream)
    np.testing.assert_allclose(gradient, tensor.grad.permute(0, 2, 3, 1).numpy(), atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(geometries())
def test_maximum_pools_are_pytorchs(geometry):
    size, kernel, stride, padding, ceil, _ = geometry
    x = image(2, *size, 3)
    op = MaxPool(kernel, stride, (*padding, *padding), ceil)
    tensor = channels_first(x)
    expected = F.max_pool2d(tensor, kernel, stride, padding, 1, ceil)
    upstream = np.random.default_rng(4).uniform(-1, 1, expected.permute(0, 2, 3, 1).shape)
    expected.backward(channels_first(upstream).detach())

    np.testing.assert_allclose(op.reference(x), expected.detach().permute(0, 2, 3, 1).numpy())
    gradient = MaxPoolGradient(**op.attributes()).reference(x, upstream)
    np.testing.assert_allclose(gradient, tensor.grad.permute(0, 2, 3, 1).numpy(), atol=1e-12)
    places = MaxPoolPlaces(**op.attributes()).reference(x, op.reference(x))
    placed = PlacedGradient(**op.attributes(), input_size=size).reference(places, upstream)
    np.testing.assert_allclose(placed, gradient)
    lowest = MinPool(**op.attributes())
    np.testing.assert_allclose(lowest.reference(-x), -op.reference(x))
    np.testing.assert_allclose(MinPoolGradient(**op.attributes()).reference(-x, upstream), gradient)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(sizes, sizes),
    st.tuples(kernels, kernels),
    st.tuples(strides, strides),
    st.tuples(strides, strides),
    st.tuples(*[st.integers(0, 2)] * 4),
)
def test_convolutions_are_pytorchs(size, kernel, stride, dilation, padding):
    top, left, bottom, right = padding
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    op = Conv2d(3, kernel, stride, padding, dilation)
    if reach[0] > size[0] + top + bottom or reach[1] > size[1] + left + right:
        with pytest.raises(ShapeError, match="does not fit"):
            op.output_size(*size)
        return
    x, w = image(2, *size, 2), image(3, 2, *kernel)
    expected = F.conv2d(
        F.pad(channels_first(x), (left, right, top, bottom)), torch.tensor(w), None, stride, 0, dilation
    )

    np.testing.assert_allclose(op.reference(x, w), expected.detach().permute(0, 2, 3, 1).numpy())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4))
def test_pads_are_pytorchs(axes):
    x = image(*(n for n, _, _ in axes))
    op = Pad(tuple(b for _, b, _ in axes), tuple(a for _, _, a in axes), 7.0)
    expected = F.pad(torch.tensor(x), [s for _, b, a in reversed(axes) for s in (b, a)], value=7.0)

    result = op.reference(x)

    np.testing.assert_array_equal(result, expected.numpy())
    assert op.infer(TensorType(x.shape)).shape == result.shape


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 3), max_size=4), st.lists(st.integers(1, 3), max_size=4))
def test_broadcasting_is_numpys(first, second):
    operands = TensorType(tuple(first)), TensorType(tuple(second))
    try:
        expected = np.broadcast_shapes(tuple(first), tuple(second))
    except ValueError:
        with pytest.raises(ShapeError, match="cannot add"):
            Add().infer(*operands)
        return

    assert Add().infer(*operands).shape == expected
