"""Nodes as other exporters write them come back as the layers they mean, and compute what ONNX Runtime does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, helper

node = helper.make_node
GENERATOR = np.random.default_rng(0)


def weight(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(np.float32)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


C31 = weight(3, 1, 1)
CASES: dict[str, tuple[list[NodeProto], dict[str, np.ndarray], tuple[int, ...]]] = {
    "silu": ([node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["y"])], {}, (3, 4, 4)),
    "hard_swish": (
        [
            node("Add", ["x", "three"], ["a"]),
            node("Clip", ["a", "zero", "six"], ["c"]),
            node("Mul", ["x", "c"], ["m"]),
            node("Div", ["m", "six"], ["y"]),
        ],
        {"three": number(3), "zero": number(0), "six": number(6)},
        (3, 4, 4),
    ),
    "hard_sigmoid": (
        [
            node("Add", ["x", "three"], ["a"]),
            node("Clip", ["a", "zero", "six"], ["c"]),
            node("Div", ["c", "six"], ["y"]),
        ],
        {"three": number(3), "zero": number(0), "six": number(6)},
        (3, 4, 4),
    ),
    "gelu": (
        [
            node("Div", ["x", "root"], ["d"]),
            node("Erf", ["d"], ["e"]),
            node("Add", ["e", "one"], ["a"]),
            node("Mul", ["x", "a"], ["m"]),
            node("Mul", ["m", "half"], ["y"]),
        ],
        {"root": number(np.sqrt(2)), "one": number(1), "half": number(0.5)},
        (7,),
    ),
    "scaled_tanh": (
        [node("Mul", ["x", "s"], ["a"]), node("Tanh", ["a"], ["t"]), node("Mul", ["t", "b"], ["y"])],
        {"s": number(2 / 3), "b": number(1.7159)},
        (3, 4, 4),
    ),
    "relu": ([node("Clip", ["x", "zero"], ["y"])], {"zero": number(0)}, (3, 4, 4)),
    "clip(0, 6)": ([node("Clip", ["x", "zero", "six"], ["y"])], {"zero": number(0), "six": number(6)}, (3, 4, 4)),
    "dropout(0.4)": ([node("Dropout", ["x", "p"], ["y", "mask"])], {"p": number(0.4)}, (7,)),
    "affine": (
        [node("Mul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["y"])],
        {"w": C31, "b": weight(3, 1, 1)},
        (3, 4, 4),
    ),
    "group_norm(2)": (
        [
            node("Reshape", ["x", "groups"], ["g"]),
            node("InstanceNormalization", ["g", "one", "zero"], ["n"]),
            node("Shape", ["x"], ["shape"]),
            node("Reshape", ["n", "shape"], ["i"]),
            node("Mul", ["i", "w"], ["m"]),
            node("Add", ["m", "b"], ["y"]),
        ],
        {
            "groups": integers(0, 2, -1),
            "one": np.ones(2, np.float32),
            "zero": np.zeros(2, np.float32),
            "w": weight(6, 1, 1),
            "b": weight(6, 1, 1),
        },
        (6, 4, 4),
    ),
    "min_pool(2)": (
        [
            node("Neg", ["x"], ["n"]),
            node("MaxPool", ["n"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Neg", ["m"], ["y"]),
        ],
        {},
        (3, 4, 4),
    ),
    "conv(5, 3, pad=1, bias=false) -> batch_norm": (
        [
            node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"]),
            node("Mul", ["n", "s"], ["o"]),
            node("Add", ["o", "t"], ["y"]),
        ],
        {
            "w": weight(5, 3, 3, 3),
            **{k: weight(5) for k in "gbm"},
            "v": np.abs(weight(5)) + 0.5,
            "s": weight(1, 5, 1, 1),
            "t": weight(5, 1, 1),
        },
        (3, 6, 6),
    ),
    "conv(4, 3, stride=2, pad=same_upper, bias=false)": (
        [node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2], kernel_shape=[3, 3])],
        {"w": weight(4, 3, 3, 3)},
        (3, 8, 7),
    ),
    "conv(4, 3, pad=(0, 1, 2, 3))": (
        [node("Pad", ["x", "p"], ["q"]), node("Conv", ["q", "w"], ["a"]), node("Add", ["a", "b"], ["y"])],
        {"p": integers(0, 0, 0, 1, 0, 0, 2, 3), "w": weight(4, 3, 3, 3), "b": weight(1, 4, 1, 1)},
        (3, 8, 7),
    ),
    "linear(5)": (
        [node("MatMul", ["x", "w"], ["m"]), node("Add", ["b", "m"], ["y"])],
        {"w": weight(7, 5), "b": weight(5)},
        (7,),
    ),
    "flatten -> linear(5)": (
        [
            node("Shape", ["x"], ["shape"]),
            node("Gather", ["shape", "zero"], ["batch"], axis=0),
            node("Unsqueeze", ["batch", "axis"], ["first"]),
            node("Concat", ["first", "rest"], ["target"], axis=0),
            node("Reshape", ["x", "target"], ["flat"]),
            node("Gemm", ["flat", "w", "b"], ["y"], transB=1, alpha=0.5, beta=2.0),
        ],
        {
            "zero": np.array(0, np.int64),
            "axis": integers(0),
            "rest": integers(-1),
            "w": weight(5, 48),
            "b": weight(1, 5),
        },
        (3, 4, 4),
    ),
    "global_avg_pool": ([node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)], {"axes": integers(-2, -1)}, (3, 4, 5)),
    "global_max_pool": (
        [node("GlobalMaxPool", ["x"], ["p"]), node("Squeeze", ["p", "axes"], ["y"])],
        {"axes": integers(2, 3)},
        (3, 4, 5),
    ),
    "channel_shuffle(3)": (
        [
            node("Reshape", ["x", "apart"], ["a"]),
            node("Transpose", ["a"], ["t"], perm=[0, 2, 1, 3, 4]),
            node("Reshape", ["t", "together"], ["y"]),
        ],
        {"apart": integers(0, 3, 2, 4, 5), "together": integers(-1, 6, 4, 5)},
        (6, 4, 5),
    ),
    "fork(slice(0, 2) -> relu, slice(2, 6)) -> concat": (
        [
            node("Split", ["x", "sizes"], ["a", "b"], axis=1),
            node("Relu", ["a"], ["r"]),
            node("Concat", ["r", "b"], ["y"], axis=1),
        ],
        {"sizes": integers(2, 4)},
        (6, 4, 5),
    ),
    "max_pool(1, stride=2)": (
        [node("Slice", ["x", "from", "to", "axes", "steps"], ["y"])],
        {"from": integers(0, 0), "to": integers(99, 99), "axes": integers(2, 3), "steps": integers(2, 2)},
        (3, 5, 4),
    ),
    "upsample((2, 3))": (
        [node("Resize", ["x", "", "scales"], ["y"], mode="nearest")],
        {"scales": np.array([1, 1, 2, 3], np.float32)},
        (3, 4, 5),
    ),
    "layer_norm(over=channels) -> conv(5, 1) -> relu": (
        [
            node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
            node("LayerNormalization", ["t", "g", "b"], ["n"], axis=-1),
            node("MatMul", ["n", "w"], ["m"]),
            node("Add", ["m", "c"], ["s"]),
            node("Relu", ["s"], ["r"]),
            node("Transpose", ["r"], ["y"], perm=[0, 3, 1, 2]),
        ],
        {"g": weight(3), "b": weight(3), "w": weight(3, 5), "c": weight(5)},
        (3, 4, 5),
    ),
    "fork(identity, adaptive_avg_pool(1) -> conv(3, 1, bias=false) -> sigmoid) -> multiply": (
        [
            node("GlobalAveragePool", ["x"], ["p"]),
            node("Conv", ["p", "w"], ["c"]),
            node("Sigmoid", ["c"], ["s"]),
            node("Mul", ["s", "x"], ["y"]),
        ],
        {"w": weight(3, 3, 1, 1)},
        (3, 4, 5),
    ),
    "relu -> scale(-1) -> offset(1)": (
        [node("Relu", ["x"], ["r"]), node("Sub", ["one", "r"], ["y"])],
        {"one": number(1)},
        (3, 4, 5),
    ),
}


@pytest.mark.parametrize("wanted", CASES)
def test_nodes_are_the_layers_they_mean(
    wanted: str, onnx_file: Callable[..., Path], stages: Callable[[Path], str]
) -> None:
    nodes, weights, shape = CASES[wanted]

    assert stages(onnx_file(nodes, weights, shape)) == wanted


OLD: dict[str, tuple[int, list[NodeProto], dict[str, np.ndarray], tuple[int, ...]]] = {
    "softmax": (9, [node("Softmax", ["x"], ["y"])], {}, (7,)),
    "reshape([-1]) -> softmax -> reshape([3, 2, 2])": (9, [node("Softmax", ["x"], ["y"])], {}, (3, 2, 2)),
    "pad(size=1, value=0.5)": (9, [node("Pad", ["x"], ["y"], pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.5)], {}, (3, 4, 4)),
    "crop(2)": (9, [node("Slice", ["x"], ["y"], starts=[1, 1], ends=[3, 3], axes=[2, 3])], {}, (3, 4, 4)),
    "clip(-1, 1)": (9, [node("Clip", ["x"], ["y"], min=-1.0, max=1.0)], {}, (3, 4, 4)),
    "relu -> dropout": (9, [node("Relu", ["x"], ["r"]), node("Dropout", ["r"], ["y", "m"], ratio=0.5)], {}, (7,)),
    "global_avg_pool": (
        9,
        [node("AveragePool", ["x"], ["p"], kernel_shape=[4, 4]), node("Reshape", ["p", "s"], ["y"])],
        {"s": integers(0, -1)},
        (3, 4, 4),
    ),
    "upsample(3)": (9, [node("Upsample", ["x", "s"], ["y"])], {"s": np.array([1, 1, 3, 3], np.float32)}, (3, 4, 4)),
}


@pytest.mark.parametrize("wanted", OLD)
def test_nodes_of_old_operator_sets_are_read_as_these_say(
    wanted: str, onnx_file: Callable[..., Path], stages: Callable[[Path], str]
) -> None:
    opset, nodes, weights, shape = OLD[wanted]

    assert stages(onnx_file(nodes, weights, shape, opset=opset)) == wanted
