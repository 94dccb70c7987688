"""What the readers of operators work with: tensors that flow, arrays that are known, and the node that is being read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dlc.compiler.ir import ShapeError
from dlc.compiler.layers.base import ArgumentError, FeatureShape, Layer

RENAMING = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators after which an array still is the weight that it was."""


class Refusal(Exception):
    """The language cannot say what a node does; the message is the reason."""


@dataclass(frozen=True, eq=False)
class Known:
    """An array that the file determines.

    `other` is what it would be for another batch, where that makes a difference (what is computed from a tensor's shape).
    `op` and `inputs` say how it was computed, if it was.
    """

    array: np.ndarray
    other: np.ndarray | None = None
    label: str | None = None
    op: str = ""
    inputs: tuple[Known, ...] = ()

    @property
    def name(self) -> str | None:
        """The weight that this array is, perhaps in another shape; None where it is a result of arithmetic."""
        if self.label is not None:
            return self.label
        return self.inputs[0].name if self.op in RENAMING and self.inputs else None

    def like(self, array: np.ndarray) -> Known:
        """Another array that goes by this one's name."""
        return Known(array, label=self.name)


@dataclass(frozen=True, eq=False)
class Flow:
    """A tensor that is computed, or an input.

    `layer` makes it of `inputs` with `weights`; without a layer it is an input of the network, or what `op` makes, which
    only together with others is a layer. `shape` is what ONNX says, without the batch. `node` names where it comes from.
    """

    op: str
    inputs: tuple[Flow, ...]
    shape: FeatureShape
    node: onnx.NodeProto
    layer: Layer | None = None
    weights: Mapping[str, Known] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


Item = Flow | Known

CHANNELS_LAST = "channels last"
"""The `op` of an image that is seen as [height, width, channels]."""


@dataclass
class Site:
    """A node that is being read, its inputs (None where one is left out), and what is known around it."""

    node: onnx.NodeProto
    inputs: tuple[Item | None, ...]
    opset: int
    batch: tuple[int, int]
    uses: Mapping[int, int]

    @property
    def attributes(self) -> dict[str, Any]:
        """The node's attributes, tensors as arrays, texts as str."""
        found: dict[str, Any] = {}
        for attribute in self.node.attribute:
            value = helper.get_attribute_value(attribute)
            if isinstance(value, onnx.TensorProto):
                value = numpy_helper.to_array(value)
            found[attribute.name] = value.decode() if isinstance(value, bytes) else value
        return found

    def attribute(self, name: str, default: Any) -> Any:
        """One attribute; its default where the node does not give it."""
        return self.attributes.get(name, default)

    @property
    def x(self) -> Flow:
        """The first input, which is a tensor that flows."""
        return self.flow(0)

    def has(self, index: int) -> bool:
        """Whether the node gives that input."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def flow(self, index: int) -> Flow:
        """An input that is computed from the network's inputs."""
        item = self.inputs[index] if self.has(index) else None
        if not isinstance(item, Flow):
            raise Refusal(f"its input {index} is a constant")
        return item

    def known(self, index: int, what: str) -> Known:
        """An input that must be a constant: `what` it is, for the message."""
        item = self.inputs[index] if self.has(index) else None
        if item is None:
            raise Refusal(f"it has no {what}")
        if isinstance(item, Flow):
            raise Refusal(f"its {what} `{self.node.input[index]}` is computed or an input, not a constant")
        return item

    def integers(self, attribute: str, index: int, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """A list of integers that is an attribute in old files and an input in new ones."""
        if attribute in self.attributes:
            value = self.attributes[attribute]
            return tuple(value) if isinstance(value, list | tuple) else (int(value),)
        if self.has(index):
            known = self.known(index, attribute)
            if known.other is not None:
                raise Refusal(f"its {attribute} depend on the batch")
            return tuple(int(n) for n in known.array.reshape(-1))
        if default is None:
            raise Refusal(f"it has no {attribute}")
        return default

    def is_shared(self, flow: Flow) -> bool:
        """Whether something else takes a tensor too."""
        return self.uses.get(id(flow), 1) > 1

    def layer(self, layer: Layer | Callable[[], Layer], *inputs: Flow, **weights: Known) -> Flow:
        """What a layer makes of tensors; arguments or shapes that it does not take are refused in its words."""
        try:
            made = layer if isinstance(layer, Layer) else layer()
            shapes = [i.shape for i in inputs]
            shape, wanted = made.shape(*shapes), made.parameters(*shapes)
        except (ArgumentError, ShapeError) as error:
            raise Refusal(str(error)) from error
        for key, spec in wanted.items():
            have = weights[key].array.shape
            self.insist(have == spec.shape, f"its {key} is {list(have)}; {made.keyword} needs {list(spec.shape)}")
        return Flow(self.node.op_type, inputs, shape, self.node, made, weights)

    def part(self, op: str, shape: FeatureShape, *inputs: Flow, **facts: Any) -> Flow:
        """What is no layer on its own; a later node may know what to make of it."""
        return Flow(op, inputs, shape, self.node, facts=facts)

    def insist(self, holds: bool, fact: str) -> None:
        """Refuses the node where something does not hold; `fact` says what is the case then."""
        if not holds:
            raise Refusal(fact)


Reader = Callable[[Site], "Item | tuple[Item, ...]"]
"""Reads one node. Raises Refusal where the language cannot say it."""


def per_channel(array: np.ndarray, shape: FeatureShape) -> np.ndarray | None:
    """[C] of an array that goes with every pixel of a tensor [C, H, W], or with features [C]; None if it does not."""
    rank = len(shape) + 1
    full = (1,) * (rank - array.ndim) + array.shape
    if len(full) == rank and full[1] == shape[0] and all(n == 1 for i, n in enumerate(full) if i != 1):
        return array.reshape(-1)
    return None


def short(value: float) -> float:
    """The number as its author wrote it, six digits of it: 0.4, not 0.4000000059604645."""
    return float(f"{value:.6g}")
