"""From an elaborated network and its recipe to graphs: inference, evaluation, and the training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

from dlc.compiler.autodiff import gradients
from dlc.compiler.errors import DlcError
from dlc.compiler.initial import initial_state, initial_weights
from dlc.compiler.ir import DType, Graph, Input, N, NotDifferentiable, Parameter, Source, TensorType, Value, source
from dlc.compiler.ir.types import Dim
from dlc.compiler.layers.base import BuildContext, ParameterSpec
from dlc.compiler.network import LayerCall, Network, NetworkInput, Tensor
from dlc.compiler.ops.elementwise import add, divide, minimum, multiply, subtract
from dlc.compiler.ops.functions import clip, sign, sqrt
from dlc.compiler.ops.reduction import reduce_sum
from dlc.compiler.ops.shape import transpose
from dlc.compiler.optimizers.base import OptimizerScalars
from dlc.compiler.recipe import Recipe, Regularizer
from dlc.compiler.selection import group_of, regularizes, weights_of

__all__ = [
    "build_evaluation",
    "build_inference",
    "build_training",
    "initial_state",
    "initial_weights",
]

LABELS, STEP, SEED, LOSS = "train.labels", "train.step", "train.seed", "train.loss"


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


def build_training(recipe: Recipe, batch: int, prepare: Callable[[Graph], Graph] = lambda graph: graph) -> Graph:
    """One training step on `batch` samples: loss, gradients, and updates of weights, optimizer state and running statistics.

    Inputs: the network's own, "train.labels" int32 [batch], "train.step" and "train.seed" uint32 (), and per optimizer of
    the recipe "train.rate.0" … float32 (). Outputs: "train.loss" float32 () (without the regularizers' part) and the
    network's. Optimizer state is "NAME@state", a parameter of NAME's layout. Weights that no optimizer's pattern
    matches, or that no loss depends on, stay as they are.

    `prepare` is applied to the forward graph (loss included) before it is differentiated: packing of weights.
    Raises DlcError where the loss cannot be differentiated.
    """
    graph = prepare(_training_forward(recipe, batch))
    weights = _trained(recipe, graph)
    try:
        found = dict(zip(weights, gradients(graph.outputs[LOSS], weights), strict=True))
    except NotDifferentiable as error:
        raise DlcError.of("E1001", f"{recipe.network.name} cannot be trained: {error}", span=recipe.span) from error
    rates = [source(Input(f"train.rate.{i}", TensorType(()))) for i in range(len(recipe.optimizers))]
    step = next(v for v in graph.inputs if _key(v) == STEP)
    updates = {**graph.updates, **_updates(recipe, found, rates, step)}
    return Graph(graph.name, (*graph.inputs, *rates), graph.outputs, updates)


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


def _training_forward(recipe: Recipe, batch: int) -> Graph:
    network = recipe.network
    labels = source(Input(LABELS, TensorType((batch,), DType.INT32)))
    step = source(Input(STEP, TensorType((), DType.UINT32)))
    seed = source(Input(SEED, TensorType((), DType.UINT32)))
    judged = {term.output for term in recipe.losses}
    wanted = [o for o in network.outputs if not o.training_only or o.name in judged]
    forward = Forward(network, batch, seed, step)
    forward.run(network.calls_for([o.tensor for o in wanted]))
    tensors = {o.name: o.tensor for o in wanted}
    loss: Value | None = None
    for term in recipe.losses:
        part = term.loss.build(forward.value(tensors[term.output]), labels)
        part = multiply(part, term.weight) if term.weight != 1 else part
        loss = part if loss is None else add(loss, part)
    if loss is None:
        raise DlcError.of("E1002", f"the recipe {recipe.name} has no loss", span=recipe.span)
    outputs = {LOSS: loss, **{o.name: forward.result(o.tensor) for o in wanted}}
    return Graph(f"{network.name}.train", (*forward.inputs.values(), labels, step, seed), outputs, forward.updates)


def _trained(recipe: Recipe, graph: Graph) -> list[Value]:
    """The weights that the loss depends on and that have an optimizer."""
    reached = Graph("loss", (), {LOSS: graph.outputs[LOSS]}).parameters
    trainable = [v for v in reached if isinstance(v.op, Parameter) and v.op.trainable]
    return [v for v in trainable if group_of(recipe.optimizers, _key(v)) is not None]


def _updates(recipe: Recipe, found: Mapping[Value, Value], rates: Sequence[Value], step: Value) -> dict[Value, Value]:
    """What the trained weights and their optimizer state hold after the step."""
    scalars = []
    for group, rate in zip(recipe.optimizers, rates, strict=True):
        plain = OptimizerScalars(rate, step)
        scalars.append(OptimizerScalars(rate, step, group.optimizer.shared(plain)))
    weights = weights_of(recipe.network)
    updates: dict[Value, Value] = {}
    for value, gradient in _clipped(recipe.regularizers, found).items():
        key = _key(value)
        number = group_of(recipe.optimizers, key)
        if number is None:
            raise AssertionError(f"{key} has no optimizer")
        optimizer, rate = recipe.optimizers[number].optimizer, rates[number]
        rules = [rule for rule in recipe.regularizers if regularizes(rule, weights[key])]
        gradient = _penalized(rules, value, gradient)
        start = value
        for rule in rules:
            if rule.kind == "decay":
                start = subtract(start, multiply(multiply(rate, rule.rate), value))
        state = {name: _state(value, name) for name in optimizer.state()}
        updates[value], moved = optimizer.update(start, gradient, state, scalars[number])
        updates.update({state[name]: after for name, after in moved.items()})
    return updates


def _penalized(rules: Sequence[Regularizer], value: Value, gradient: Value) -> Value:
    """The gradient with those of l2, rate/2 |w|², and l1, rate |w|, added."""
    for rule in rules:
        if rule.kind == "l2":
            gradient = add(gradient, multiply(value, rule.rate))
        elif rule.kind == "l1":
            gradient = add(gradient, multiply(sign(value), rule.rate))
    return gradient


def _clipped(rules: Sequence[Regularizer], gradients: Mapping[Value, Value]) -> Mapping[Value, Value]:
    """The gradients, each element held within a value, or all scaled so that their common norm is at most a number."""
    for rule in rules:
        if rule.kind == "clip_value":
            gradients = {v: clip(g, -rule.rate, rule.rate) for v, g in gradients.items()}
        elif rule.kind == "clip_norm" and gradients:
            squares = [reduce_sum(multiply(g, g), tuple(range(g.type.rank))) for g in gradients.values()]
            norm = sqrt(reduce(add, squares))
            factor = minimum(divide(rule.rate, add(norm, 1e-6)), 1.0)
            gradients = {v: multiply(g, factor) for v, g in gradients.items()}
    return gradients


def _state(weight: Value, name: str) -> Value:
    """A tensor of the optimizer's beside a weight, laid out as the weight is."""
    if not isinstance(weight.op, Parameter):
        raise AssertionError(f"{weight} is not a parameter")
    key = f"{weight.op.key}@{name}"
    return source(Parameter(key, weight.type, trainable=False, layout=weight.op.layout), weight.span, weight.label)


def _key(value: Value) -> str:
    if not isinstance(value.op, Source):
        raise AssertionError(f"{value} is computed, not given")
    return value.op.key
