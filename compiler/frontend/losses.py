"""Elaborates `loss`: a sum of losses over outputs, `cross_entropy(logits) + 0.3 * cross_entropy(aux1)`."""

from __future__ import annotations

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.convert import words_of
from dlc.compiler.frontend.environment import Environment
from dlc.compiler.frontend.evaluator import Evaluator
from dlc.compiler.frontend.operators import is_number
from dlc.compiler.frontend.sections import chosen
from dlc.compiler.frontend.signatures import signature_of
from dlc.compiler.frontend.suggestions import did_you_mean, listing
from dlc.compiler.frontend.values import Poison, kind, show_shape
from dlc.compiler.ir import ShapeError
from dlc.compiler.network import Network
from dlc.compiler.recipe import LossTerm


def elaborate_loss(
    evaluator: Evaluator, node: ast.Expression, network: Network | None, weight: float = 1.0
) -> list[LossTerm]:
    """The terms of a loss. With no network (it has mistakes of its own) outputs are not looked at."""
    if isinstance(node, ast.Binary) and node.operator == "+":
        left = elaborate_loss(evaluator, node.left, network, weight)
        return left + elaborate_loss(evaluator, node.right, network, weight)
    if isinstance(node, ast.Binary) and node.operator == "*":
        factor, term = (node.left, node.right) if _is_loss(evaluator, node.right) else (node.right, node.left)
        value = evaluator.evaluate(factor, Environment())
        if isinstance(value, Poison):
            elaborate_loss(evaluator, term, network, weight)
            return []
        if not is_number(value):
            evaluator.error("E0806", f"the weight of a loss is a number, not {kind(value)}", factor.span)
            return []
        if value <= 0:
            evaluator.error("E0807", f"the weight of a loss must be above 0, not {factor.span.text}", factor.span)
            return []
        return elaborate_loss(evaluator, term, network, weight * float(value))
    if isinstance(node, ast.Binary):
        evaluator.error("E0808", "a loss is a sum: `cross_entropy(logits) + 0.3 * cross_entropy(aux1)`", node.span)
        return []
    return _term(evaluator, node, network, weight)


def _is_loss(evaluator: Evaluator, node: ast.Expression) -> bool:
    target = node.function if isinstance(node, ast.Call) else node
    if isinstance(target, ast.Binary):
        return _is_loss(evaluator, target.left) or _is_loss(evaluator, target.right)
    return isinstance(target, ast.Name) and not isinstance(node, ast.Number)


def _term(evaluator: Evaluator, node: ast.Expression, network: Network | None, weight: float) -> list[LossTerm]:
    losses = evaluator.vocabulary.losses
    named: ast.Name | None = None
    call = node
    if (
        isinstance(node, ast.Call)
        and isinstance(node.function, ast.Name)
        and node.function.name in losses
        and node.arguments
    ):
        first = node.arguments[0]
        parameters = signature_of(losses[node.function.name]).parameters
        words = words_of(parameters[0].annotation) if parameters else frozenset()
        if first.name is None and isinstance(first.value, ast.Name) and first.value.name not in words:
            named = first.value
            call = ast.Call(node.function, node.arguments[1:], span=node.span)
    loss = chosen(evaluator, losses, "loss", call)
    if network is None:
        return []
    output = _named(evaluator, named, network) if named is not None else _only(evaluator, node, network)
    if output is None or loss is None:
        return []
    shape = next(o.tensor.shape for o in network.outputs if o.name == output)
    try:
        loss.check(shape)
    except ShapeError as error:
        message, _, help = str(error).partition("; ")
        evaluator.error("E0812", message, node.span, f"output `{output}` is {show_shape(shape)}", help=help)
        return []
    return [LossTerm(loss, output, weight, node.span)]


def _named(evaluator: Evaluator, name: ast.Name, network: Network) -> str | None:
    outputs = [o.name for o in network.outputs]
    if name.name in outputs:
        return name.name
    help = did_you_mean(name.name, outputs) or f"it has {listing(outputs)}"
    evaluator.error("E0811", f"{network.name} has no output `{name.name}`", name.span, help=help)
    return None


def _only(evaluator: Evaluator, node: ast.Expression, network: Network) -> str | None:
    """The output that a loss without a name is about: the only one that is not for training alone."""
    outputs = [o.name for o in network.outputs if not o.training_only]
    if len(outputs) == 1:
        return outputs[0]
    loss = node.function.span.text if isinstance(node, ast.Call) else node.span.text
    message = f"{network.name} has outputs {listing(outputs)}: say which one this is about"
    evaluator.error("E0811", message, node.span, help=f"write `{loss}({outputs[0]})`")
    return None
