"""What the writers of layers work with: the place of one layer call in the ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlc.compiler.errors import Diagnostic, DlcError
from dlc.compiler.layers.base import FeatureShape
from dlc.compiler.network import LayerCall


@dataclass(frozen=True, eq=False)
class Given:
    """A value that is not computed: an input of the network, or a weight."""

    name: str


@dataclass(frozen=True, eq=False)
class Node:
    """One ONNX operator and its only result. `call` is the name of the layer call that it comes from."""

    op: str
    inputs: tuple[Item, ...]
    attributes: Mapping[str, Any]
    call: str


Item = Given | Node


@dataclass
class Site:
    """A layer call that is being written. `nodes` collects what it needs, in the order it is computed."""

    call: LayerCall
    weights: Mapping[str, Given]
    nodes: list[Node] = field(default_factory=list)

    @property
    def shapes(self) -> tuple[FeatureShape, ...]:
        """The inputs' shapes, without the batch."""
        return tuple(t.shape for t in self.call.inputs)

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of the first input, which is an image."""
        _, height, width = self.shapes[0]
        return height, width

    def weight(self, key: str) -> Given:
        """A weight of the layer, in its canonical shape."""
        return self.weights[self.call.weights[key]]

    def per_channel(self, key: str) -> Item:
        """A weight [C] in a shape that goes with the first input: [C, 1, 1] beside an image."""
        return (
            self.node("Unsqueeze", self.weight(key), self.integers(1, 2))
            if len(self.shapes[0]) == 3
            else self.weight(key)
        )

    def node(self, op: str, *inputs: Item, **attributes: Any) -> Node:
        """Adds a node of the default operator set."""
        made = Node(op, inputs, attributes, self.call.name)
        self.nodes.append(made)
        return made

    def constant(self, value: np.ndarray) -> Node:
        """Adds a fixed tensor."""
        return self.node("Constant", value=value)

    def number(self, value: float) -> Node:
        """Adds a fixed float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def integers(self, *values: int) -> Node:
        """Adds a fixed list of integers: axes, sizes, places."""
        return self.constant(np.array(values, np.int64))

    def filled(self, channels: int, value: float) -> Node:
        """Adds [channels] times the same number, for a weight that ONNX demands and the layer does not have."""
        return self.constant(np.full((channels,), value, np.float32))

    def refusal(self, fact: str, advice: str) -> DlcError:
        """The error for a layer that ONNX cannot say: where it stands, why, and what to do."""
        notes = [f"in {frame.description}, called at {frame.span}" for frame in self.call.chain]
        message = f"layer `{self.call.name}` ({self.call.layer.keyword}) cannot be written as ONNX: {fact}"
        return DlcError([Diagnostic("E0854", message, self.call.span, notes=tuple(notes), help=advice)])
