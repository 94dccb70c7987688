"""The elaborated network: what a model of a spec is once every name, number and shape is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from dlc.compiler.layers.base import FeatureShape, Layer, ParameterSpec
from dlc.compiler.source import Span

Weight = TypeVar("Weight")
"""An array, or whatever stands for one."""


@dataclass(frozen=True)
class Frame:
    """One block call on the way to a layer: "Basic(channels=128, stride=2)" and where it was called."""

    description: str
    span: Span


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor between layers. `shape` is channels, height, width (or features), without the batch."""

    shape: FeatureShape
    producer: LayerCall | NetworkInput | None = field(default=None, repr=False)  # whose repr would show all before it
    span: Span | None = None


@dataclass(frozen=True, eq=False)
class NetworkInput:
    """`input image: [1, 32, 32]`."""

    name: str
    shape: FeatureShape
    span: Span
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One layer applied to tensors.

    `name` is the dotted name ("layer1.0.conv1"): it prefixes the weights' names (`weights[key]`, e.g.
    {"weight": "layer1.0.conv1.weight"}). A shared stage used twice gives two calls with the same weight names.
    `training_only`: needed by no output of the inference artifact (an auxiliary head).
    """

    name: str
    layer: Layer
    inputs: tuple[Tensor, ...]
    output: Tensor
    parameters: Mapping[str, ParameterSpec]
    weights: Mapping[str, str]
    span: Span
    chain: tuple[Frame, ...] = ()  # innermost first


@dataclass(frozen=True)
class NetworkOutput:
    """`output logits`, or `output aux1 when training`."""

    name: str
    tensor: Tensor
    training_only: bool
    span: Span


@dataclass(frozen=True)
class Network:
    """A model ready to build: calls in the order they were written, producers before users."""

    name: str
    inputs: tuple[NetworkInput, ...]
    calls: tuple[LayerCall, ...]
    outputs: tuple[NetworkOutput, ...]
    span: Span | None = None

    def inference_calls(self) -> tuple[LayerCall, ...]:
        """The calls that the outputs of the inference artifact need."""
        return self.calls_for([o.tensor for o in self.outputs if not o.training_only])

    def calls_for(self, roots: list[Tensor]) -> tuple[LayerCall, ...]:
        """The calls that some tensors need, in order."""
        needed: set[int] = set()
        stack = list(roots)
        while stack:
            producer = stack.pop().producer
            if isinstance(producer, LayerCall) and id(producer) not in needed:
                needed.add(id(producer))
                stack.extend(producer.inputs)
        return tuple(c for c in self.calls if id(c) in needed)

    def parameter_specs(self, *, training: bool = True) -> dict[str, ParameterSpec]:
        """Every weight by its full name, in order, once; with the auxiliary heads' when `training`."""
        calls = self.calls if training else self.inference_calls()
        return {c.weights[key]: spec for c in calls for key, spec in c.parameters.items()}

    def inference_weights(self, weights: Mapping[str, Weight]) -> dict[str, Weight]:
        """The weights without those that inference has no use for: the auxiliary heads', and PyTorch's count of the
        batches that made a batch norm's running statistics. Unknown names stay, to be reported."""
        names = self.parameter_specs()
        unused = names.keys() - self.parameter_specs(training=False).keys()
        unused |= {f"{n.removesuffix('running_mean')}num_batches_tracked" for n in names if n.endswith(".running_mean")}
        return {name: array for name, array in weights.items() if name not in unused}
