"""The elaborated network: what a model of a spec is once every name, number and shape is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from dlc.compiler.ir import ShapeError
from dlc.compiler.layers.base import FeatureShape, Layer, ParameterSpec
from dlc.compiler.source import Span

Weight = TypeVar("Weight")
"""An array, or whatever stands for one."""


@dataclass(frozen=True)
class Frame:
    """One block call on the way to a layer: "Basic(channels=128, stride=2)" and where it was called.

    `scope` is the dotted name under which its layers are ("layer2.0"), empty for a model. Each call has a frame of its own.
    """

    description: str
    span: Span
    scope: str = ""


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
    """A model ready to build: calls in the order they were written, producers before users.

    `measured` is the first place where the spec read the height or width of a tensor ("net.dlspec:3:7"): of another image,
    other layers might have come of it.
    """

    name: str
    inputs: tuple[NetworkInput, ...]
    calls: tuple[LayerCall, ...]
    outputs: tuple[NetworkOutput, ...]
    span: Span | None = None
    measured: str = ""

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


@dataclass(frozen=True)
class Replacement:
    """What a call becomes: another layer, and the names of its weights."""

    layer: Layer
    weights: Mapping[str, str]


def inference_form(
    network: Network,
    *,
    shapes: Mapping[str, FeatureShape] | None = None,
    replaced: Mapping[LayerCall, Replacement | None] | None = None,
) -> Network:
    """The network without what only training needs, put together anew.

    `shapes` gives inputs other shapes, by name; `replaced` calls another layer, or with None nothing (of a layer that takes
    one tensor). Raises ShapeError (with the call as `call`) where a layer does not take what it would get.
    """
    shapes, replaced = shapes or {}, replaced or {}
    inputs = tuple(replace(i, shape=shapes.get(i.name, i.shape)) for i in network.inputs)
    given = {i.name: Tensor(i.shape, i, i.span) for i in inputs}
    made: dict[int, Tensor] = {}

    def current(tensor: Tensor) -> Tensor:
        return given[tensor.producer.name] if isinstance(tensor.producer, NetworkInput) else made[id(tensor)]

    calls = []
    for call in network.inference_calls():
        change = replaced.get(call, Replacement(call.layer, call.weights))
        operands = tuple(current(t) for t in call.inputs)
        if change is None:
            made[id(call.output)] = operands[0]
            continue
        try:
            calls.append(call_layer(call.name, change.layer, operands, change.weights, call.span, call.chain))
        except ShapeError as error:
            raise UnfitCall(call, str(error)) from error
        made[id(call.output)] = calls[-1].output
    outputs = [replace(o, tensor=current(o.tensor)) for o in network.outputs if not o.training_only]
    return replace(network, inputs=inputs, calls=tuple(calls), outputs=tuple(outputs))


class UnfitCall(ShapeError):
    """A layer does not take what it would get; `call` is its call in the network it comes from."""

    def __init__(self, call: LayerCall, message: str) -> None:
        super().__init__(message)
        self.call = call


def call_layer(
    name: str,
    layer: Layer,
    inputs: tuple[Tensor, ...],
    weights: Mapping[str, str],
    span: Span,
    chain: tuple[Frame, ...] = (),
) -> LayerCall:
    """A layer applied to tensors, with the tensor that it makes. Raises ShapeError where it does not take them."""
    shapes = [t.shape for t in inputs]
    output = Tensor(tuple(layer.shape(*shapes)), None, span)
    call = LayerCall(name, layer, inputs, output, layer.parameters(*shapes), weights, span, chain)
    object.__setattr__(output, "producer", call)  # the two name each other; nothing else sees the tensor before
    return call
