"""From a recipe to graphs: the training step, and the part of it that only adds to the gradients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import reduce

from dlc.compiler.autodiff import gradients
from dlc.compiler.averaging import Ema
from dlc.compiler.build import Forward
from dlc.compiler.errors import DlcError
from dlc.compiler.ir import DType, Fusion, Graph, Input, NotDifferentiable, Parameter, Source, TensorType, Value, source
from dlc.compiler.ops.base import constant
from dlc.compiler.ops.elementwise import add, cast, divide, minimum, multiply, subtract
from dlc.compiler.ops.functions import clip, sign, sqrt
from dlc.compiler.ops.reduction import mean, reduce_sum
from dlc.compiler.ops.shape import broadcast_to
from dlc.compiler.optimizers.base import GRADIENT, OptimizerScalars
from dlc.compiler.precision import in_precision
from dlc.compiler.recipe import Recipe, Regularizer
from dlc.compiler.selection import clips, group_of, is_trained, rules_for, weights_of
from dlc.runtime.plan import AVERAGE

LABELS, STEP, SEED, LOSS = "train.labels", "train.step", "train.seed", "train.loss"
OTHER_LABELS, SHARE = "train.other_labels", "train.share"
DRAW = "train.draw"
"""What random numbers depend on besides the seed: the number of the pass, where a step makes several."""

Prepare = Callable[[Graph], Graph]


def build_training(recipe: Recipe, batch: int, prepare: Prepare = lambda graph: graph) -> Graph:
    """One training step on `batch` samples: loss, gradients, and updates of weights, optimizer state and running statistics.

    Inputs: the network's own, "train.labels" int32 [batch], "train.step" and "train.seed" uint32 (), and per optimizer of
    the recipe "train.rate.0" … float32 (). Outputs: "train.loss" float32 () (without the regularizers' part) and the
    network's. Optimizer state is "NAME@state", a parameter of NAME's layout. Weights that no optimizer's pattern
    matches, or that no loss depends on, stay as they are.

    Where the recipe's augmentation mixes samples, there are "train.other_labels" int32 [batch] and "train.share" float32
    [batch] too, and a sample's loss is share · loss(label) + (1 - share) · loss(other label). Where it accumulates, this is the last of
    the step's parts: it takes the gradients so far, "NAME@gradient", in, and leaves zeros there (see `build_part`).

    `prepare` is applied to the forward graph (loss included) before it is differentiated: packing of weights.
    Raises DlcError where the loss cannot be differentiated.
    """
    graph = prepare(build_loss(recipe, batch))
    found = weight_gradients(recipe, graph)
    updates = dict(graph.updates)
    if recipe.accumulate > 1:
        for value, gradient in found.items():
            so_far = _state(value, GRADIENT)
            found[value] = multiply(add(so_far, gradient), 1.0 / recipe.accumulate)
            updates[so_far] = broadcast_to(constant(0.0), value.type.shape)
    rates = [source(Input(f"train.rate.{i}", TensorType(()))) for i in range(len(recipe.optimizers))]
    step = next((v for v in graph.inputs if _key(v) == STEP), None) or source(Input(STEP, TensorType((), DType.UINT32)))
    updates |= _updates(recipe, found, rates, step)
    inputs = tuple(dict.fromkeys((*graph.inputs, step, *rates)))
    return in_precision(Graph(graph.name, inputs, graph.outputs, updates), recipe.precision)


def build_part(recipe: Recipe, batch: int, prepare: Prepare = lambda graph: graph) -> Graph:
    """A part of a step before the last: its gradients are added to "NAME@gradient"; running statistics move on.

    Inputs and outputs as of `build_training`, without the step's number and the rates. Raises as it does.
    """
    graph = prepare(build_loss(recipe, batch))
    updates = dict(graph.updates)
    for value, gradient in weight_gradients(recipe, graph).items():
        so_far = _state(value, GRADIENT)
        updates[so_far] = add(so_far, gradient)
    return in_precision(Graph(f"{graph.name}.part", graph.inputs, graph.outputs, updates), recipe.precision)


def build_loss(recipe: Recipe, batch: int, *, layers: bool = False) -> Graph:
    """The forward half of a step: the loss, the network's outputs, and the running statistics' updates.

    With `layers`, every layer's value is an output too, unless it only moves elements: "value NAME", images channels last;
    a second use of NAME is "NAME 2".
    Raises DlcError where the recipe has no loss.
    """
    network = recipe.network
    labels = source(Input(LABELS, TensorType((batch,), DType.INT32)))
    given = [labels]
    other = share = None
    if recipe.mixes:
        other = source(Input(OTHER_LABELS, TensorType((batch,), DType.INT32)))
        share = source(Input(SHARE, TensorType((batch,))))
        given += [other, share]
    draw = source(Input(DRAW if recipe.accumulate > 1 else STEP, TensorType((), DType.UINT32)))
    seed = source(Input(SEED, TensorType((), DType.UINT32)))
    judged = {term.output for term in recipe.losses}
    wanted = [o for o in network.outputs if not o.training_only or o.name in judged]
    forward = Forward(network, batch, seed, draw)
    calls = network.calls_for([o.tensor for o in wanted])
    forward.run(calls)
    tensors = {o.name: forward.value(o.tensor) for o in wanted}
    loss: Value | None = None
    for term in recipe.losses:
        output = tensors[term.output]
        if other is None or share is None:
            part = term.loss.build(output, labels)
        else:
            first, second = term.loss.each(output, labels), term.loss.each(output, other)
            part = mean(add(multiply(first, share), multiply(second, subtract(1.0, share))), (0,))
        part = multiply(part, term.weight) if term.weight != 1 else part
        loss = part if loss is None else add(loss, part)
    if loss is None:
        raise DlcError.of("E1002", f"the recipe {recipe.name} has no loss", span=recipe.span)
    outputs = {LOSS: loss, **{o.name: forward.result(o.tensor) for o in wanted}}
    if layers:
        uses: Counter[str] = Counter()
        for call in calls:
            value = forward.value(call.output)
            if value.op.fusion in (Fusion.VIEW, Fusion.INJECTIVE):
                continue  # the same elements in another order
            uses[call.name] += 1
            number = f" {uses[call.name]}" if uses[call.name] > 1 else ""
            outputs[f"value {call.name}{number}"] = value
    inputs = (*forward.inputs.values(), *given, draw, seed)
    return Graph(f"{network.name}.train", inputs, outputs, forward.updates)


def weight_gradients(recipe: Recipe, graph: Graph) -> dict[Value, Value]:
    """Each trained weight of a graph of `build_loss` with its gradient. Raises DlcError where there is none to compute."""
    weights = _trained(recipe, graph)
    try:
        return dict(zip(weights, gradients(graph.outputs[LOSS], weights), strict=True))
    except NotDifferentiable as error:
        raise DlcError.of("E1001", f"{recipe.network.name} cannot be trained: {error}", span=recipe.span) from error


def _trained(recipe: Recipe, graph: Graph) -> list[Value]:
    """The weights that the loss depends on and that have an optimizer which moves them."""
    reached = Graph("loss", (), {LOSS: graph.outputs[LOSS]}).parameters
    trainable = [v for v in reached if isinstance(v.op, Parameter) and v.op.trainable]
    return [v for v in trainable if is_trained(recipe.optimizers, _key(v))]


def _updates(recipe: Recipe, found: Mapping[Value, Value], rates: Sequence[Value], step: Value) -> dict[Value, Value]:
    """What the trained weights, their optimizer state and their averages hold after the step."""
    scalars = []
    for group, rate in zip(recipe.optimizers, rates, strict=True):
        plain = OptimizerScalars(rate, step)
        scalars.append(OptimizerScalars(rate, step, group.optimizer.shared(plain)))
    weights = weights_of(recipe.network)
    share = _share(recipe.average, step) if recipe.average is not None else 0.0
    updates: dict[Value, Value] = {}
    for value, gradient in _clipped(recipe.regularizers, found).items():
        key = _key(value)
        number = group_of(recipe.optimizers, key)
        if number is None:
            raise AssertionError(f"{key} has no optimizer")
        optimizer, rate = recipe.optimizers[number].optimizer, rates[number]
        rules = rules_for(recipe.regularizers, weights[key])
        gradient = _penalized(rules, value, gradient)
        start = value
        for rule in rules:
            if rule.kind == "decay":
                start = subtract(start, multiply(multiply(rate, rule.rate), value))
        state = {name: _state(value, name) for name in optimizer.state()}
        updates[value], moved = optimizer.update(start, gradient, state, scalars[number])
        updates.update({state[name]: after for name, after in moved.items()})
        if recipe.average is not None:
            average = _state(value, AVERAGE)
            rest = 1.0 - share if isinstance(share, float) else subtract(1.0, share)
            updates[average] = add(multiply(average, share), multiply(updates[value], rest))
    return updates


def _share(average: Ema, step: Value) -> Value | float:
    """The part d that the average keeps of itself in a step."""
    if not average.ramp:
        return average.decay
    time = add(cast(step, DType.FLOAT32), 1.0)
    return minimum(divide(add(time, 1.0), add(time, 10.0)), average.decay)


def _penalized(rules: Sequence[Regularizer], value: Value, gradient: Value) -> Value:
    """The gradient with those of l2, rate/2 |w|², and l1, rate |w|, added."""
    for rule in rules:
        if rule.kind == "l2":
            gradient = add(gradient, multiply(value, rule.rate))
        elif rule.kind == "l1":
            gradient = add(gradient, multiply(sign(value), rule.rate))
    return gradient


def _clipped(rules: Sequence[Regularizer], gradients: Mapping[Value, Value]) -> Mapping[Value, Value]:
    """The gradients, each element held within a value, or all scaled so that their common norm is at most a number.

    A rule with a pattern is about the gradients of the weights that it matches alone.
    """
    found = dict(gradients)
    for rule in rules:
        chosen = {v: g for v, g in found.items() if clips(rule, _key(v))}
        if rule.kind == "clip_value":
            found |= {v: clip(g, -rule.rate, rule.rate) for v, g in chosen.items()}
        elif rule.kind == "clip_norm" and chosen:
            squares = [reduce_sum(multiply(g, g), tuple(range(g.type.rank))) for g in chosen.values()]
            norm = sqrt(reduce(add, squares))
            factor = minimum(divide(rule.rate, add(norm, 1e-6)), 1.0)
            found |= {v: multiply(g, factor) for v, g in chosen.items()}
    return found


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
