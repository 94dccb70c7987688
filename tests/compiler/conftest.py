"""Small networks without the language: tests of layers, losses and graphs build them call by call."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dlc.compiler.layers.base import FeatureShape, Layer
from dlc.compiler.network import LayerCall, Network, NetworkInput, NetworkOutput, Tensor
from dlc.compiler.source import SourceFile, Span

NOWHERE = Span(SourceFile("test.dlspec", ""), 0, 0)


class NetworkBuilder:
    """Collects calls; `network()` gives what they make."""

    def __init__(self) -> None:
        self.inputs: list[NetworkInput] = []
        self.calls: list[LayerCall] = []
        self.outputs: list[NetworkOutput] = []

    def input(self, *shape: int, name: str = "image", dtype: str = "float32") -> Tensor:
        self.inputs.append(NetworkInput(name, shape, NOWHERE, dtype))
        return Tensor(shape, self.inputs[-1])

    def call(self, layer: Layer, *tensors: Tensor, name: str = "", weights: str | None = None) -> Tensor:
        """Applies a layer; `weights` names the scope of the weights where two calls share them."""
        name = name or f"{layer.keyword}{len(self.calls)}"
        shapes = [t.shape for t in tensors]
        output = Tensor(layer.shape(*shapes))
        parameters = layer.parameters(*shapes)
        names = {key: f"{weights or name}.{key}" for key in parameters}
        call = LayerCall(name, layer, tensors, output, parameters, names, NOWHERE)
        object.__setattr__(output, "producer", call)
        self.calls.append(call)
        return output

    def output(self, name: str, tensor: Tensor, *, training_only: bool = False) -> None:
        self.outputs.append(NetworkOutput(name, tensor, training_only, NOWHERE))

    def network(self, name: str = "Net") -> Network:
        return Network(name, tuple(self.inputs), tuple(self.calls), tuple(self.outputs))


@pytest.fixture
def builder() -> NetworkBuilder:
    return NetworkBuilder()


@pytest.fixture
def single() -> Callable[..., Network]:
    """A network of one layer, its output named "y", its weights "layer.…"."""

    def build(layer: Layer, *shapes: FeatureShape) -> Network:
        builder = NetworkBuilder()
        inputs = [builder.input(*shape, name=f"x{i}") for i, shape in enumerate(shapes)]
        builder.output("y", builder.call(layer, *inputs, name="layer"))
        return builder.network()

    return build
