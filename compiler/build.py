"""From an elaborated network to graphs: inference, evaluation, and the forward part of training."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.compiler.ir import DType, Graph, Input, N, Parameter, Source, TensorType, Value, source
from dlc.compiler.ir.types import Dim
from dlc.compiler.layers.base import BuildContext, ParameterSpec
from dlc.compiler.network import LayerCall, Network, NetworkInput, Tensor
from dlc.compiler.ops.shape import transpose


def build_inference(network: Network) -> Graph:
    """The network in its inference form, of a symbolic batch; outputs marked `when training` and what only they need are absent.

    Inputs and outputs have the shapes that the spec shows, images as [N, channels, height, width]. Every weight is a
    Parameter of the canonical shape, by its dotted name.
    """
    forward = Forward(network, N)
    forward.run(network.inference_calls())
    outputs = {o.name: forward.result(o.tensor) for o in network.outputs if not o.training_only}
    return Graph(network.name, tuple(forward.inputs.values()), outputs)


def build_evaluation(network: Network) -> Graph:
    """The inference form for use between training steps: its weights stay parameters that training updates, so none is folded."""
    return build_inference(network)


class Forward:
    """Builds calls one after another; keeps the graph values of tensors, inputs, weights and running statistics."""

    def __init__(self, network: Network, batch: Dim, seed: Value | None = None, step: Value | None = None) -> None:
        self.inputs = {i.name: _input(i, batch) for i in network.inputs}
        self.updates: dict[Value, Value] = {}
        self._values: dict[int, Value] = {}
        self._inputs_by_name = {i.name: channels_last(self.inputs[i.name]) for i in network.inputs}
        self._parameters: dict[str, Value] = {}
        self._statistics: dict[str, Value] = {}
        self._streams = {id(call): number for number, call in enumerate(network.calls)}
        self._training = seed is not None
        self._seed, self._step = seed, step

    def run(self, calls: Sequence[LayerCall]) -> None:
        """Builds the calls, producers before users."""
        for call in calls:
            self._build(call)

    def value(self, tensor: Tensor) -> Value:
        """The tensor's value, images channels last."""
        if isinstance(tensor.producer, NetworkInput):
            return self._inputs_by_name[tensor.producer.name]
        return self._values[id(tensor)]

    def result(self, tensor: Tensor) -> Value:
        """The tensor's value as users see it, images as [N, channels, height, width]."""
        value = self.value(tensor)
        return transpose(value, (0, 3, 1, 2)) if value.type.rank == 4 else value

    def _build(self, call: LayerCall) -> None:
        own = {key: self._parameter(call, key, spec) for key, spec in call.parameters.items()}
        # a shared batch norm goes on from what its earlier use made of the statistics
        current = {key: self._statistics.get(call.weights[key], value) for key, value in own.items()}
        context = BuildContext(current, self._training, self._seed, self._step, self._streams[id(call)])
        inputs = [self.value(t) for t in call.inputs]
        results = [call.layer.build(context, *inputs), *context.updates.values()]
        output, *statistics = _labelled(results, known=[*inputs, *current.values()], call=call)
        self._values[id(call.output)] = output
        for key, value in zip(context.updates, statistics, strict=True):
            self._statistics[call.weights[key]] = value
            self.updates[own[key]] = value

    def _parameter(self, call: LayerCall, key: str, spec: ParameterSpec) -> Value:
        name = call.weights[key]
        if name not in self._parameters:
            parameter = Parameter(name, TensorType(spec.shape), trainable=spec.trainable)
            self._parameters[name] = source(parameter, call.span, call.name)
        return self._parameters[name]


def channels_last(value: Value) -> Value:
    """[N, C, H, W] -> [N, H, W, C]; features stay as they are."""
    return transpose(value, (0, 2, 3, 1)) if value.type.rank == 4 else value


def _input(network_input: NetworkInput, batch: Dim) -> Value:
    type_ = TensorType((batch, *network_input.shape), DType(network_input.dtype))
    return source(Input(network_input.name, type_), network_input.span)


def _labelled(results: Sequence[Value], known: Sequence[Value], call: LayerCall) -> list[Value]:
    """The values that a call made, with the call's name and place; what was there before stays."""
    memo: dict[Value, Value] = {v: v for v in known}
    for root in results:
        stack = [root]
        while stack:
            value = stack[-1]
            pending = [o for o in value.operands if o not in memo]
            if value in memo or isinstance(value.op, Source):
                memo.setdefault(value, value)
                stack.pop()
            elif pending:
                stack.extend(pending)
            else:
                operands = tuple(memo[o] for o in value.operands)
                memo[value] = Value(value.op, operands, value.type, call.span, call.name)
                stack.pop()
    return [memo[r] for r in results]
