"""Shape rules, counts, and what layers refuse: the sentence states the fact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dlc.compiler.ir import ShapeError
from dlc.compiler.layers.activation import Clip, Relu
from dlc.compiler.layers.arithmetic import Add, Multiply
from dlc.compiler.layers.base import ArgumentError, Layer
from dlc.compiler.layers.connect import ConvConnect
from dlc.compiler.layers.convolution import Conv, ConvTranspose
from dlc.compiler.layers.dropout import Dropout
from dlc.compiler.layers.linear import Linear
from dlc.compiler.layers.normalization import BatchNorm, GroupNorm, InstanceNorm, LocalResponseNorm
from dlc.compiler.layers.pooling import AvgPool, GlobalAvgPool, MaxPool, Subsample
from dlc.compiler.layers.rbf import DigitDrawings, Rbf
from dlc.compiler.layers.shape import Concat, Crop, Pad, Reshape, Slice, Upsample
from dlc.compiler.layers.shuffle import ChannelShuffle

C3 = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)


@pytest.mark.parametrize(
    ("layer", "inputs", "output"),
    [
        (Conv(64, 7, 2, "same"), [(3, 224, 224)], (64, 112, 112)),
        (Conv(8, 3, 2, "same_upper"), [(3, 7, 8)], (8, 4, 4)),
        (Conv(8, (1, 3), pad=(0, 1)), [(3, 7, 8)], (8, 7, 8)),
        (Conv(8, 3, pad=(1, 0, 2, 3)), [(3, 7, 8)], (8, 8, 9)),
        (Conv(8, 3, dilation=3), [(3, 7, 8)], (8, 1, 2)),
        (ConvTranspose(8, 2, 2), [(3, 7, 8)], (8, 14, 16)),
        (MaxPool(3, 2), [(64, 112, 112)], (64, 55, 55)),
        (MaxPool(3, 2, round="ceil"), [(64, 112, 112)], (64, 56, 56)),
        (MaxPool(2, 2, 1, "ceil"), [(3, 3, 3)], (3, 2, 2)),
        (AvgPool((2, 3)), [(3, 4, 9)], (3, 2, 3)),
        (GlobalAvgPool(), [(64, 7, 7)], (64,)),
        (Pad(1, 64), [(64, 8, 8)], (128, 10, 10)),
        (Slice(-2, 8, "width"), [(3, 8, 8)], (3, 8, 2)),
        (Upsample((2, 3), "bilinear"), [(3, 4, 4)], (3, 8, 12)),
        (Concat(), [(3, 4, 4), (5, 4, 4)], (8, 4, 4)),
        (Multiply(), [(3,), (3, 4, 4)], (3, 4, 4)),
    ],
    ids=str,
)
def test_a_shape_is(layer: Layer, inputs: list[tuple[int, ...]], output: tuple[int, ...]) -> None:
    assert layer.shape(*inputs) == output


@pytest.mark.parametrize(
    ("layer", "inputs", "message"),
    [
        (Conv(6, 5), [(1, 3, 3)], "kernel 5x5 does not fit into 3x3"),
        (Conv(6, 5, pad=1), [(1, 2, 2)], "kernel 5x5 does not fit into 2x2 (padded to 4x4)"),
        (Conv(6, 3, dilation=2), [(1, 4, 4)], "kernel 3x3 (dilated to 5x5) does not fit into 4x4"),
        (MaxPool(2), [(8, 1, 1)], "kernel 2x2 does not fit into 1x1"),
        (Conv(6, 3, groups=2), [(3, 8, 8)], "2 groups do not divide the 3 channels of [3, 8, 8]"),
        (Conv(6, 3), [(120,)], "conv needs an image [channels, height, width], not [120]"),
        (
            ConvTranspose(2, 2, pad=1),
            [(1, 1, 1)],
            "padding 1 leaves nothing of the transposed convolution of [1, 1, 1]",
        ),
        (ConvConnect(C3, 5), [(4, 14, 14)], "row 2 of the table names input map 4, [4, 14, 14] has 4"),
        (Linear(5), [(3, 2, 2)], "linear needs features [n], not [3, 2, 2]; put flatten or global_avg_pool before it"),
        (GroupNorm(4), [(6, 2, 2)], "4 groups do not divide the 6 channels of [6, 2, 2]"),
        (InstanceNorm(), [(6, 1, 1)], "instance_norm needs more than one pixel, not [6, 1, 1]: it would give zeros"),
        (LocalResponseNorm(), [(6,)], "local_response_norm needs an image [channels, height, width], not [6]"),
        (ChannelShuffle(4), [(6, 2, 2)], "4 groups do not divide the 6 channels of [6, 2, 2]"),
        (Rbf(), [(80,)], "the digits of rbf are drawings of 84 pixels, the input is [80]"),
        (Reshape((7, -1, 1)), [(3, 2, 2)], "cannot reshape [3, 2, 2] with 12 elements to [7, -1, 1]"),
        (Crop(5), [(3, 4, 6)], "cannot crop 5x5 from 4x6"),
        (Slice(2, 9), [(8, 2, 2)], "slice 2 to 9 does not lie in the 8 of the channels of [8, 2, 2]"),
        (Slice(0, 1, "height"), [(8,)], "cannot slice the height of [8]"),
        (Concat(), [(3, 4, 4), (3, 4, 5)], "cannot concatenate [3, 4, 4] and [3, 4, 5] along the channels"),
        (Concat(), [(3, 4, 4), (3,)], "cannot concatenate [3, 4, 4] and [3] along the channels"),
        (Add(), [(64, 56, 56), (128, 28, 28)], "cannot add [64, 56, 56] and [128, 28, 28]"),
        (Multiply(), [(64, 56, 56), (128,)], "cannot multiply [64, 56, 56] and [128]"),
        (Multiply(), [(3, 2, 1), (3, 1, 2)], "cannot multiply [3, 2, 1] and [3, 1, 2]"),
    ],
    ids=str,
)
def test_inputs_that_do_not_fit_are_refused(layer: Layer, inputs: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        layer.shape(*inputs)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "field", "sentence"),
    [
        (lambda: Conv(0, 3), "channels", "must be at least 1, not 0"),
        (lambda: Conv(6, (3, 0)), "kernel", "must be at least 1, not (3, 0)"),
        (lambda: Conv(6, 3, stride=0), "stride", "must be at least 1, not 0"),
        (lambda: Conv(6, 3, pad=-1), "pad", "must not be negative, not -1; crop cuts borders off"),
        (lambda: Conv(6, 4, pad="same"), "pad", "same needs an odd kernel, not 4x4; same_upper pads unevenly"),
        (lambda: Conv(6, 3, groups=4), "groups", "4 groups do not divide 6 output channels"),
        (lambda: ConvTranspose(6, 3, 2, output_pad=2), "output_pad", None),
        (lambda: ConvConnect((), 3), "table", "needs a row of input maps for every output map, it is empty"),
        (lambda: ConvConnect(((0,), ()), 3), "table", "row 1 names no input map"),
        (lambda: ConvConnect(((0, -1),), 3), "table", "row 0 names input map -1; they count from 0"),
        (lambda: ConvConnect(((1, 1),), 3), "table", "row 0 names an input map twice: [1, 1]"),
        (lambda: Linear(0), "features", "must be at least 1, not 0"),
        (
            lambda: MaxPool(2, pad=2),
            "pad",
            "may be half the kernel at most: a window must not lie in the padding alone",
        ),
        (lambda: Subsample(0), "kernel", "must be at least 1, not 0"),
        (lambda: BatchNorm(eps=0.0), "eps", "must be above 0, not 0.0"),
        (lambda: BatchNorm(momentum=2.0), "momentum", None),
        (lambda: GroupNorm(0), "groups", "must be at least 1, not 0"),
        (lambda: LocalResponseNorm(0), "size", "must be at least 1, not 0"),
        (lambda: Dropout(1.0), "p", "must be at least 0 and below 1, not 1.0; it is the chance to drop"),
        (lambda: Clip(1.0, 1.0), "high", "must be above low, 1.0, not 1.0"),
        (lambda: Rbf(11), "prototypes", "there are ten digits, not 11; use prototypes=random"),
        (lambda: Reshape((2, 3)), "to", "must be [features] or [channels, height, width], not [2, 3]"),
        (lambda: Reshape((-1, -1, 2)), "to", "holds sizes of at least 1 and at most one -1, not [-1, -1, 2]"),
        (lambda: Pad(-1), "size", "must not be negative, not -1; crop cuts borders off"),
        (lambda: Pad(0, (0, -1)), "channels", "must not be negative, not (0, -1); slice takes a part"),
        (lambda: Slice(0, 1, step=0), "step", "must be at least 1, not 0"),
    ],
)
def test_a_wrong_argument_is_named(make: Callable[[], Layer], field: str, sentence: str | None) -> None:
    with pytest.raises(ArgumentError) as caught:
        make()

    assert caught.value.field == field
    assert sentence is None or caught.value.sentence == sentence


def test_c3_of_lenet5_counts_only_the_connected_weights() -> None:
    layer = ConvConnect(C3, 5)
    specs = layer.parameters((6, 14, 14))

    assert sum(int(np.prod(spec.shape)) for spec in specs.values()) == 1516
    assert layer.macs((6, 14, 14)) == 150_000
    assert layer.shape((6, 14, 14)) == (16, 10, 10)


def test_prototypes_of_rbf_are_ten_different_drawings_and_not_trained() -> None:
    spec = Rbf().parameters((84,))["weight"]
    drawings = DigitDrawings().fill(spec.shape, 84, 10, np.random.default_rng(0))

    assert not spec.trainable
    assert set(np.unique(drawings)) == {-1.0, 1.0}
    assert (drawings @ drawings.T)[~np.eye(10, dtype=bool)].max() < 70


def test_layers_without_weights_have_none() -> None:
    assert Relu().parameters((3, 2, 2)) == {}
    assert Relu().macs((3, 2, 2)) == 0
