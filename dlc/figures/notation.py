"""How figures write a layer: its kind, which gives it a colour, and a phrase such as "7×7 conv, 64, /2"."""

from __future__ import annotations

from enum import Enum
from typing import Any

from dlc.compiler.layers.base import FeatureShape, Layer


class Kind(Enum):
    """What a layer is to someone who looks at a figure; the value is the legend's word."""

    CONVOLUTION = "convolution"
    POOLING = "pooling"
    LINEAR = "fully connected"
    NORM = "normalisation"
    ACTIVATION = "activation"
    MERGE = "merge"
    SHAPE = "reshaping"
    BLOCK = "block"
    PORT = "input, output"


FAMILIES = {
    "convolution": Kind.CONVOLUTION,
    "connect": Kind.CONVOLUTION,
    "pooling": Kind.POOLING,
    "linear": Kind.LINEAR,
    "rbf": Kind.LINEAR,
    "normalization": Kind.NORM,
    "activation": Kind.ACTIVATION,
    "softmax": Kind.ACTIVATION,
    "dropout": Kind.ACTIVATION,
    "arithmetic": Kind.MERGE,
    "shape": Kind.SHAPE,
}  # module of the layer's class -> kind
WORDS = {
    "conv": "conv",
    "conv_connect": "conv",
    "conv_transpose": "up-conv",
    "relu": "ReLU",
    "prelu": "PReLU",
    "leaky_relu": "leaky ReLU",
    "elu": "ELU",
    "selu": "SELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "batch_norm": "BN",
    "layer_norm": "LN",
    "group_norm": "GN",
    "instance_norm": "IN",
    "local_response_norm": "LRN",
    "rbf": "RBF",
}  # the field's usual spellings; every other layer is called by its keyword


def kind(layer: Layer) -> Kind:
    """What a layer is; joins are merges, and a family without a colour of its own counts as reshaping."""
    if layer.arity != (1, 1):
        return Kind.MERGE
    return FAMILIES.get(type(layer).__module__.rpartition(".")[2], Kind.SHAPE)


def word(layer: Layer) -> str:
    """A layer's name without its arguments: "conv", "max pool", "BN"."""
    return WORDS.get(layer.keyword, layer.keyword.replace("_", " "))


def window(value: Any) -> str:
    """`3` or `(1, 3)` as "3×3", "1×3"."""
    return f"{value}×{value}" if isinstance(value, int) else "×".join(map(str, value))


def size(shape: FeatureShape) -> str:
    """A tensor's shape: "64×56×56"."""
    return "×".join(map(str, shape))


def stride(layer: Layer) -> int | tuple[int, int]:
    """How far a layer's window moves; 1 for a layer without one. A pool's stride is its kernel if it is not given."""
    step = getattr(layer, "stride", 1)
    step = getattr(layer, "kernel", 1) if step is None else step
    if isinstance(step, tuple):
        height, width = step
        return height if height == width else (height, width)
    return int(step)


def channels(layer: Layer) -> int | None:
    """The number of maps or units that a layer with weights makes; None for one that keeps its input's."""
    for field in ("channels", "features", "classes"):
        value = getattr(layer, field, None)
        if isinstance(value, int) and kind(layer) in (Kind.CONVOLUTION, Kind.LINEAR):
            return value
    table = getattr(layer, "table", None)
    return len(table) if table is not None else None


def phrase(layer: Layer, output: FeatureShape, inputs: FeatureShape) -> str:
    """A layer in a box of a figure: "3×3 conv, 64, /2", "linear, 4096", "2×2 max pool, /2", "adaptive avg pool, 6×6"."""
    text = word(layer)
    if hasattr(layer, "kernel"):
        text = f"{window(layer.kernel)} {text}"
    facts: list[str] = []
    if (made := channels(layer)) is not None:
        facts.append(str(made))
    if layer.keyword == "adaptive_avg_pool":
        facts.append(window(output[1:]))
    step = stride(layer)
    if step != 1:
        facts.append(f"{'×' if layer.keyword == 'conv_transpose' else '/'}{_number(step)}")
    facts += connectivity(layer, inputs)
    fields: dict[str, Any] = vars(layer)
    if layer.keyword == "upsample":
        facts.append(f"×{_number(fields['factor'])}")
    if layer.keyword == "dropout":
        text += f" {fields['p']:g}"
    if layer.keyword == "pad" and fields["channels"]:
        facts.append(f"{inputs[0]} → {output[0]}")
    return ", ".join([text, *facts])


def connectivity(layer: Layer, inputs: FeatureShape) -> list[str]:
    """How a convolution sees less, or more widely spread, than all of its window: groups, a table, dilation."""
    fields: dict[str, Any] = vars(layer)
    facts: list[str] = []
    if kind(layer) is Kind.CONVOLUTION and fields.get("groups", 1) != 1:
        facts.append("depthwise" if fields["groups"] == inputs[0] else f"{fields['groups']} groups")
    if "table" in fields:
        pairs, of = sum(map(len, fields["table"])), len(fields["table"]) * inputs[0]
        facts += [f"{pairs} of {of} pairs"] if pairs < of else []
    if fields.get("dilation", 1) not in (1, (1, 1)):
        facts.append(f"dilation {_number(fields['dilation'])}")
    return facts


def _number(value: int | tuple[int, int]) -> str:
    return str(value) if isinstance(value, int) else window(value)


def scaling(layer: Layer, output: FeatureShape, inputs: FeatureShape) -> int:
    """-1 where a layer makes the image smaller, 1 where it makes it larger, 0 where neither.

    The rim that a window without padding loses is no change: what moves a window counts by its stride.
    """
    if len(output) != 3 or len(inputs) != 3 or output[1:] == inputs[1:]:
        return 0
    if hasattr(layer, "stride") and stride(layer) == 1:
        return 0
    return -1 if output[1] * output[2] < inputs[1] * inputs[2] else 1
