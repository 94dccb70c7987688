"""Elaborates models: from declaration and arguments to a network in which every name, number and shape is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.apply import apply_stage
from dlc.compiler.frontend.assembly import Assembly
from dlc.compiler.frontend.call import bind_declared, declared_values, with_defaults
from dlc.compiler.frontend.calls import ActiveCall
from dlc.compiler.frontend.environment import NOT_FOUND, Environment
from dlc.compiler.frontend.evaluator import Evaluator
from dlc.compiler.frontend.expectations import check_expectation
from dlc.compiler.frontend.report import Stop
from dlc.compiler.frontend.suggestions import did_you_mean
from dlc.compiler.frontend.values import POISON, BlockFunction, BlockStage, ModelFunction, Poison, kind
from dlc.compiler.network import LayerCall, Network
from dlc.compiler.source import Span


@dataclass(frozen=True)
class ModelDefinition:
    """A model of a file, elaborated with its defaults."""

    name: str
    network: Network
    span: Span


def elaborate(
    evaluator: Evaluator, model: ModelFunction, values: Mapping[str, Any], span: Span | None
) -> Network | None:
    """The network of a model for these arguments; None where something is wrong with it, which is reported."""
    before = evaluator.report.count
    outer, depth, frames = evaluator.assembly, len(evaluator.calls), evaluator.frames
    evaluator.steps = 0
    evaluator.assembly = Assembly()
    try:
        network = _model(evaluator, model, values, span)
    except Stop:
        network = None
    finally:
        evaluator.assembly, evaluator.frames = outer, frames
        del evaluator.calls[depth:]
    return network if evaluator.report.count == before else None


def probe(evaluator: Evaluator, function: ModelFunction | BlockFunction) -> None:
    """Evaluates a definition that nothing calls, with unknown arguments, for the mistakes that show even so."""
    values = {p.name: POISON for p in function.parameters if p.default is None}
    if isinstance(function, ModelFunction):
        elaborate(evaluator, function, values, None)
        return
    outer = evaluator.assembly
    evaluator.steps, evaluator.assembly = 0, Assembly()
    try:
        stage = BlockStage(function.declaration.name.span, function, with_defaults(evaluator, function, values))
        apply_stage(evaluator, stage, POISON)
    except Stop:
        pass
    finally:
        evaluator.assembly = outer


def called_model(
    evaluator: Evaluator, node: ast.Expression, env: Environment
) -> tuple[ModelFunction, dict[str, Any]] | None:
    """The model and the arguments of `LeNet5(classes=10)` or `LeNet5`; None where it is neither, which is reported."""
    target = node.function if isinstance(node, ast.Call) else node
    arguments = node.arguments if isinstance(node, ast.Call) else ()
    function = _find_model(evaluator, target, env)
    if not isinstance(function, ModelFunction):
        if not isinstance(function, Poison):
            evaluator.error("E0609", f"{kind(function)} is not a model", target.span)
        return None
    bound, good = bind_declared(evaluator, function, "model", arguments, target.span)
    values = declared_values(evaluator, function.name, function.parameters, bound, env, {})
    return (function, values) if good else None


def _find_model(evaluator: Evaluator, target: ast.Expression, env: Environment) -> Any:
    if isinstance(target, ast.Name) and env.get(target.name) is NOT_FOUND:
        models = [n for n in env.visible() if isinstance(env.get(n), ModelFunction)]
        help = did_you_mean(target.name, models)
        if not help and models:
            help = f"this file has {', '.join(f'`{m}`' for m in models[:8])}"
        return evaluator.error("E0401", f"unknown model `{target.name}`", target.span, help=help)
    if isinstance(target, (ast.Name, ast.Attribute)):
        return evaluator.evaluate(target, env)
    return evaluator.error("E0609", "a model is named here, with its arguments: `LeNet5(classes=10)`", target.span)


def _model(
    evaluator: Evaluator, model: ModelFunction, arguments: Mapping[str, Any], span: Span | None
) -> Network | None:
    declaration: ast.Model = model.declaration
    values = with_defaults(evaluator, model, arguments)
    expected = _has_defaults(evaluator, model, arguments)
    evaluator.entered.add(model)
    given = {p.name: values[p.name] for p in model.parameters if p.name in values}
    with evaluator.inside(ActiveCall(model.name, given, span), declaration.name.span):
        env = Environment(model.environment, dict(values))
        if declaration.definition is None:
            return _written(evaluator, declaration, env, expected)
        called = called_model(evaluator, declaration.definition, env)
        if called is None:
            return None
        network = _model(evaluator, *called, declaration.definition.span)
        if network is None:
            return None
        network = replace(network, name=model.name, span=declaration.name.span)
        if expected:
            _expect(evaluator, declaration.body, env, network)
        return network


def _has_defaults(evaluator: Evaluator, model: ModelFunction, arguments: Mapping[str, Any]) -> bool:
    """Whether no argument differs from its parameter's default: what a model's expectations are about."""
    required = {p.name: arguments[p.name] for p in model.parameters if p.default is None and p.name in arguments}
    defaults = with_defaults(evaluator, model, required)
    return all(defaults[name] == value for name, value in arguments.items())


def _written(evaluator: Evaluator, declaration: ast.Model, env: Environment, expected: bool) -> Network | None:
    """The network of a model with a body of its own; `expected`: its expectations are about these arguments."""
    before = evaluator.report.count
    assembly = evaluator.assembly
    assert declaration.body is not None
    for statement in declaration.body.statements:
        if isinstance(statement, ast.Input):
            env.names[statement.name.name] = assembly.add_input(
                evaluator, statement, evaluator.evaluate(statement.shape, env)
            )
        elif isinstance(statement, ast.Assign):
            evaluator.assign(statement.targets, evaluator.evaluate(statement.value, env), env, statement.value.span)
        elif isinstance(statement, ast.Evaluate):
            if isinstance(statement.value, ast.Output):
                assembly.add_output(evaluator, statement.value, evaluator.name(statement.value.name, env))
            else:
                evaluator.evaluate(statement.value, env)
    name = declaration.name
    has = {type(s) for s in declaration.body.statements}
    if ast.Input not in has:
        help = "start with `input image: [channels, height, width]`"
        evaluator.error("E0601", f"model `{name.name}` has no input", name.span, help=help)
    if not assembly.outputs and evaluator.report.count == before:
        evaluator.error(
            "E0601", f"model `{name.name}` has no output", name.span, help="end a chain with `-> output NAME`"
        )
    elif assembly.outputs and all(o.training_only for o in assembly.outputs) and evaluator.report.count == before:
        message = f"all outputs of model `{name.name}` are for training only"
        evaluator.error("E0601", message, assembly.outputs[0].span, help="leave `when training` out of the main one")
    if evaluator.report.count != before or assembly.broken:
        return None
    network = assembly.network(name.name, name.span)
    _dead(evaluator, network)
    if expected:
        _expect(evaluator, declaration.body, env, network)
    return network


def _expect(evaluator: Evaluator, body: ast.Body | None, env: Environment, network: Network) -> None:
    for statement in body.statements if body is not None else ():
        if isinstance(statement, ast.Expect):
            check_expectation(evaluator, statement, evaluator.evaluate(statement.value, env), network)


LOOSE = ("E0408", "E0603", "E0604", "E0607")  # mistakes that leave layers without a way to an output


def _dead(evaluator: Evaluator, network: Network) -> None:
    """Reports layers that no output needs, at the last of each row of them, and inputs that nothing takes."""
    if any(d.code in LOOSE for d in evaluator.report.found.values()):
        return  # what is loose has been reported
    needed: set[object] = set()
    stack = [o.tensor for o in network.outputs]
    while stack:
        producer = stack.pop().producer
        if producer in needed or producer is None:
            continue
        needed.add(producer)
        if isinstance(producer, LayerCall):
            stack.extend(producer.inputs)
    fed = {t.producer for c in network.calls for t in c.inputs}
    for call in network.calls:
        if call not in needed and call not in fed:
            evaluator.error(
                "E0616", f"the result of `{call.name}` reaches no output", call.span,
                help="let it flow to an output, or leave it out",
            )  # fmt: skip
    for given in network.inputs:
        if given not in needed and given not in fed:
            evaluator.error("E0616", f"input `{given.name}` is used by nothing", given.span)
