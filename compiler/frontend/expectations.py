"""`expect`: what the author says a network comes to, checked against what it does.

| subject | value |
|---|---|
| `params` | weights and biases that are trained, auxiliary outputs included |
| `macs` | multiply-adds of convolutions and linear layers for one sample, auxiliary outputs included |
| `inference.params`, `inference.macs` | the same without what is `when training` |
| `NAME.params`, `NAME.macs` | the same for one layer or one scope of names (`layer1`, `layer1.0.conv1`) |
| `NAME: [64, 56, 56]` | the shape of an output, an input, a layer or the last layer of a scope |

An integer must agree exactly, a float to four significant digits (`expect macs = 4.089e9`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.evaluator import Evaluator
from dlc.compiler.frontend.operators import is_number
from dlc.compiler.frontend.suggestions import did_you_mean
from dlc.compiler.frontend.values import Poison, kind, show, show_shape
from dlc.compiler.network import LayerCall, Network

COUNTS = {"params": "parameters", "macs": "multiply-adds"}


def check_expectation(evaluator: Evaluator, node: ast.Expect, value: Any, network: Network) -> None:
    """Reports an expectation that does not hold, or that makes no sense."""
    if isinstance(value, Poison):
        return
    if node.relation == "=":
        _count(evaluator, node, value, network)
    else:
        _shape(evaluator, node, value, network)


def trained(calls: Sequence[LayerCall]) -> int:
    """Weights and biases that are trained, shared ones once."""
    specs = {c.weights[key]: spec for c in calls for key, spec in c.parameters.items()}
    return sum(prod(spec.shape) for spec in specs.values() if spec.trainable)


def multiply_adds(calls: Sequence[LayerCall]) -> int:
    """Multiply-adds of convolutions and linear layers for one sample."""
    return sum(c.layer.macs(*(t.shape for t in c.inputs)) for c in calls)


def _count(evaluator: Evaluator, node: ast.Expect, value: Any, network: Network) -> None:
    scope, _, subject = node.subject.name.rpartition(".")
    if subject not in COUNTS:
        help = did_you_mean(subject, COUNTS)
        if any(o.name == node.subject.name for o in network.outputs):
            help = f"write `expect {node.subject.name}: [10]` for its shape"
        evaluator.error(
            "E0704",
            f"nothing counts `{node.subject.name}`",
            node.subject.span,
            help=help or "there are `params` and `macs`",
        )
        return
    calls: Sequence[LayerCall] = network.calls
    if scope == "inference":
        calls = network.inference_calls()
    elif scope:
        calls = [c for c in network.calls if c.name == scope or c.name.startswith(scope + ".")]
        if not calls:
            _unknown(evaluator, node, scope, network)
            return
    if not is_number(value):
        evaluator.error("E0705", f"`{node.subject.name}` is a number, not {kind(value)}", node.value.span)
        return
    actual = trained(calls) if subject == "params" else multiply_adds(calls)
    agrees = f"{actual:.4g}" == f"{value:.4g}" if isinstance(value, float) else actual == value
    if not agrees:
        code = "E0701" if subject == "params" else "E0702"
        what = f"`{scope}`" if scope and scope != "inference" else network.name
        wanted = f"{value:,}" if isinstance(value, int) else show(value)
        evaluator.error(code, f"{what} has {actual:,} {COUNTS[subject]}, not {wanted}", node.value.span, f"{actual:_}")


def _shape(evaluator: Evaluator, node: ast.Expect, value: Any, network: Network) -> None:
    if not isinstance(value, (list, tuple)) or not all(isinstance(n, int) and not isinstance(n, bool) for n in value):
        evaluator.error("E0705", f"a shape is a list of integers, not {kind(value)}", node.value.span)
        return
    name = node.subject.name
    shapes: dict[str, tuple[int, ...]] = {}
    for call in network.calls:
        parts = call.name.split(".")
        for length in range(1, len(parts) + 1):
            shapes[".".join(parts[:length])] = call.output.shape
    shapes.update({i.name: i.shape for i in network.inputs})
    shapes.update({o.name: o.tensor.shape for o in network.outputs})
    if name not in shapes:
        _unknown(evaluator, node, name, network)
    elif tuple(value) != shapes[name]:
        message = f"`{name}` is {show_shape(shapes[name])}, not {show_shape(tuple(value))}"
        evaluator.error("E0703", message, node.value.span, show_shape(shapes[name]))


def _unknown(evaluator: Evaluator, node: ast.Expect, name: str, network: Network) -> None:
    scopes = {".".join(c.name.split(".")[:n]) for c in network.calls for n in range(1, c.name.count(".") + 2)}
    names = {*scopes, *(o.name for o in network.outputs), *(i.name for i in network.inputs)}
    help = did_you_mean(name, names) or "outputs, layers and scopes of names have shapes"
    evaluator.error("E0704", f"{network.name} has no output and no layer `{name}`", node.subject.span, help=help)
