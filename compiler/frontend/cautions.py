"""Warnings about recipes: what is legal, and yet hardly meant."""

from __future__ import annotations

from collections.abc import Iterator

from dlc.compiler.errors import Diagnostic
from dlc.compiler.frontend.suggestions import listing
from dlc.compiler.initializers.fan import He
from dlc.compiler.network import LayerCall, Network
from dlc.compiler.recipe import Recipe
from dlc.compiler.selection import group_of, initializer_of, weights_of
from dlc.compiler.source import Span

# By keyword: the catalogs' modules are imported when a spec names what is in them.
CONSTANT = ("zeros", "constant")
TWICE = (("cross_entropy", "softmax"), ("binary_cross_entropy", "sigmoid"))


def cautions(recipe: Recipe) -> list[Diagnostic]:
    """The warnings that a recipe deserves, in the order of their codes."""
    rules = (_symmetry, _scores, _statistics_of_parts, _left_alone, _rprop, _unjudged)
    return [warning for rule in rules for warning in rule(recipe)]


def _warning(code: str, message: str, span: Span | None, *, notes: tuple[str, ...] = (), help: str = "") -> Diagnostic:
    return Diagnostic(code, message, span, notes=notes, help=help, severity="warning")


def _symmetry(recipe: Recipe) -> Iterator[Diagnostic]:
    """Equal units before equal units: each gets the gradient of its neighbours, and they stay equal for ever."""
    weights = weights_of(recipe.network)
    equal = {}
    for call in recipe.network.calls:
        name = call.weights.get("weight")
        if name is None or weights[name].spec.init is not None or weights[name].spec.shape[0] == 1:
            continue
        made = initializer_of(recipe.init, weights[name], He())
        if made.keyword in CONSTANT:
            equal[id(call)] = made
    stuck = [
        call.name
        for call in recipe.network.calls
        if id(call) in equal and any(id(user) in equal for user in _weighted_users(recipe.network, call))
    ]
    if stuck:
        dead = all(getattr(made, "value", 0) == 0 for made in equal.values())
        what = "gets a gradient of zero" if dead else "stays equal to its neighbours: they learn the same"
        groups = [g for g in recipe.init if g.initializer.keyword in CONSTANT]
        yield _warning(
            "W0101",
            f"every unit of {listing(dict.fromkeys(stuck), 4)} starts equal and {what}",
            groups[0].span,
            help="weights need random numbers to tell units apart: `init he`; biases may be zero",
        )


def _weighted_users(network: Network, call: LayerCall) -> Iterator[LayerCall]:
    """The calls with weights of their own that a call's units reach through layers without."""
    stack, seen = [call.output], {id(call.output)}
    while stack:
        tensor = stack.pop()
        for user in network.calls:
            if not any(t is tensor for t in user.inputs):
                continue
            spec = user.parameters.get("weight")
            if spec is not None and spec.init is None:
                yield user
            elif id(user.output) not in seen:
                seen.add(id(user.output))
                stack.append(user.output)


def _scores(recipe: Recipe) -> Iterator[Diagnostic]:
    """Losses that take a softmax or a sigmoid themselves, of outputs that are one, and the other way round."""
    last = {o.name: o.tensor.producer for o in recipe.network.outputs}
    for term in recipe.losses:
        producer, loss = last[term.output], term.loss.keyword
        layer = producer.layer.keyword if isinstance(producer, LayerCall) else ""
        if (loss, layer) in TWICE:
            yield _warning(
                "W0102",
                f"{loss} takes the {layer} itself: of output `{term.output}` it is taken twice",
                term.span,
                help=f"let the output be the scores before the {layer}",
            )
        if loss == "negative_log_likelihood" and layer != "log_softmax":
            yield _warning(
                "W0103",
                f"{loss} is about log-probabilities, which output `{term.output}` does not end with",
                term.span,
                help="write `cross_entropy` for scores, or end the output with log_softmax",
            )


def _statistics_of_parts(recipe: Recipe) -> Iterator[Diagnostic]:
    norms = [call.name for call in recipe.network.calls if call.layer.keyword == "batch_norm"]
    if recipe.accumulate > 1 and norms:
        size = f"of {recipe.batch // recipe.accumulate} samples" if recipe.batch else "of the samples"
        yield _warning(
            "W0104",
            f"batch norm takes its statistics over parts {size}, not over the batch"
            + f" of {recipe.batch}" * bool(recipe.batch),
            recipe.span,
            notes=(f"batch norms: {listing(norms, 3)}",),
            help="group_norm and layer_norm do not depend on the batch",
        )


def _left_alone(recipe: Recipe) -> Iterator[Diagnostic]:
    alone = [
        name
        for name, weight in weights_of(recipe.network).items()
        if weight.spec.trainable and group_of(recipe.optimizers, name) is None
    ]
    if alone:
        yield _warning(
            "W0105",
            f"{listing(alone, 3)}: no optimizer is for {'these weights' if len(alone) > 1 else 'this weight'}, so they stay as they are",
            recipe.optimizers[-1].span,
            help="name an optimizer without `for`, or say so: `optimizer …, frozen`",
        )


def _rprop(recipe: Recipe) -> Iterator[Diagnostic]:
    moving = [g for g in recipe.optimizers if g.optimizer.keyword != "frozen"]
    signs = [g for g in moving if g.optimizer.keyword == "rprop"]
    if signs and recipe.schedules and len(signs) == len(moving):
        yield _warning(
            "W0106",
            "a schedule plays no part with rprop, which finds a step size for each weight by itself",
            signs[0].span,
            help="leave the schedule out",
        )
    if signs and recipe.batch:
        yield _warning(
            "W0108",
            f"rprop goes by the signs of gradients, which differ by chance between batches of {recipe.batch} samples",
            signs[0].span,
            help="write `batch all`: it is meant for the gradient of all samples",
        )


def _unjudged(recipe: Recipe) -> Iterator[Diagnostic]:
    judged = {term.output for term in recipe.losses}
    heads = [o.name for o in recipe.network.outputs if o.training_only and o.name not in judged]
    if heads and recipe.losses:
        first = recipe.losses[0]
        yield _warning(
            "W0107",
            f"no loss is about {listing(heads, 3)}, which {recipe.network.name} has for training",
            first.span,
            help="weight them: `"
            + " + ".join(
                [f"{first.loss.keyword}({first.output})", *(f"0.3 * {first.loss.keyword}({h})" for h in heads)]
            )
            + "`",
        )
