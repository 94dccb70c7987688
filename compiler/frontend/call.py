"""Calls: layers and blocks become stages, lambdas run, and tensors that stand in front of the arguments flow in.

Everything that takes tensors can be written both ways: `concat(a, b)` is `(a, b) -> concat`, `conv(x, 64, 3)` is
`x -> conv(64, 3)`. Tensors given by position and before all other arguments are inputs; a block takes a tensor as an argument
by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.apply import apply_stage
from dlc.compiler.frontend.arguments import bind, construct, typed
from dlc.compiler.frontend.convert import Mismatch, condition_of, convert, words_of
from dlc.compiler.frontend.environment import NOT_FOUND, Environment
from dlc.compiler.frontend.functions import BUILTINS
from dlc.compiler.frontend.lambdas import run_lambda
from dlc.compiler.frontend.signatures import FormalParameter, Signature, signature_of
from dlc.compiler.frontend.suggestions import did_you_mean
from dlc.compiler.frontend.values import (
    POISON,
    BlockFunction,
    BlockStage,
    BuiltinFunction,
    LambdaFunction,
    LayerFunction,
    LayerStage,
    ModelFunction,
    Parameter,
    Poison,
    Stage,
    UnknownStage,
    Word,
    is_tensors,
    kind,
)
from dlc.compiler.source import Span

if TYPE_CHECKING:
    from dlc.compiler.frontend.evaluator import Evaluator

LITERALS = (ast.Number, ast.String, ast.Boolean, ast.Lambda)


def call(evaluator: Evaluator, node: ast.Call, env: Environment) -> Any:
    """The value of `function(arguments)`."""
    function = evaluator.evaluate(node.function, env)
    match function:
        case BuiltinFunction() if BUILTINS[function.name].combinator:
            inputs, rest, known = _leading_tensors(evaluator, node.arguments, env)
            return _flow(evaluator, BUILTINS[function.name].run(evaluator, node, rest, env, known), inputs)
        case BuiltinFunction():
            return BUILTINS[function.name].run(evaluator, node, node.arguments, env, {})
        case LayerFunction():
            return _call_layer(evaluator, function, node, env)
        case BlockFunction():
            inputs, rest, known = _leading_tensors(evaluator, node.arguments, env)
            return _flow(evaluator, _call_block(evaluator, function, node, rest, env, known), inputs)
        case LambdaFunction():
            return _call_lambda(evaluator, function, node, env)
        case ModelFunction():
            for argument in node.arguments:
                evaluator.evaluate(argument.value, env)
            return evaluator.error(
                "E0609", f"{kind(function)} cannot be used inside a network", node.function.span,
                help="a model has inputs and outputs of its own; make the shared part a block",
            )  # fmt: skip
        case Stage():
            inputs, rest, _ = _leading_tensors(evaluator, node.arguments, env)
            if inputs is not None and not rest:
                return apply_stage(evaluator, function, inputs)
    values = [evaluator.evaluate(a.value, env) for a in node.arguments]
    if isinstance(function, Poison) or any(isinstance(v, Poison) for v in values):
        return POISON
    if isinstance(function, Stage):
        return evaluator.error("E0514", "a stage takes tensors and nothing else", node.span)
    return evaluator.error("E0516", f"{kind(function)} cannot be called", node.function.span)


def _leading_tensors(
    evaluator: Evaluator, arguments: Sequence[ast.Argument], env: Environment, many: bool = False
) -> tuple[Any, Sequence[ast.Argument], dict[int, Any]]:
    """The tensors in front of the arguments (None: there are none; a single one as it is), the other arguments, and the
    values of those that were evaluated to find out, by the identity of their node. `many`: the callee takes any number of
    tensors, so that an unknown name among them is one."""
    inputs: list[Any] = []
    known: dict[int, Any] = {}
    used = 0
    for argument in arguments:
        if argument.name is not None or isinstance(argument.value, LITERALS):
            break
        if isinstance(argument.value, ast.Name):
            value = env.get(argument.value.name)
            if value is NOT_FOUND and many and evaluator.known(argument.value.name, argument.span) is NOT_FOUND:
                value = evaluator.evaluate(argument.value, env)
            if value is NOT_FOUND:
                break
            if isinstance(value, Poison):
                known[id(argument.value)] = value
        else:
            value = known[id(argument.value)] = evaluator.evaluate(argument.value, env)
        if not is_tensors(value) and not (isinstance(value, list) and value and all(map(is_tensors, value))):
            break
        inputs += list(value) if isinstance(value, (list, tuple)) else [value]
        used += 1
    if not inputs:
        return None, arguments, known
    return (inputs[0] if len(inputs) == 1 else tuple(inputs)), arguments[used:], known


def _flow(evaluator: Evaluator, stage: Any, inputs: Any) -> Any:
    if inputs is None:
        return stage
    return apply_stage(evaluator, stage, inputs) if isinstance(stage, Stage) else stage


def _call_layer(evaluator: Evaluator, function: LayerFunction, node: ast.Call, env: Environment) -> Any:
    many = function.layer.arity[1] is None
    inputs, rest, known = _leading_tensors(evaluator, node.arguments, env, many)
    signature = signature_of(function.layer)
    poisoned = any(isinstance(v, Poison) for v in known.values())
    positional = sum(a.name is None for a in rest)
    if poisoned and (many or positional > len(signature.parameters)):
        for argument in node.arguments:  # the unknown value is, or may be, a tensor
            if id(argument.value) not in known:
                evaluator.evaluate(argument.value, env)
        return POISON
    bound, good = bind(evaluator.report, signature, rest, node.function.span)
    values: dict[str, Any] = {}
    spans: dict[str, Span] = {}
    for name, argument in bound.items():
        parameter = signature.find(name)
        assert parameter is not None
        value, fits = argument_value(evaluator, argument.value, parameter, function.keyword, env, known)
        good &= fits
        values[parameter.field] = value
        spans[parameter.field] = argument.value.span
    stage: Stage = UnknownStage(node.span)
    if good:
        stage = instantiate_layer(evaluator, function, values, spans, node.span)
    return _flow(evaluator, stage, inputs)


def argument_value(
    evaluator: Evaluator,
    node: ast.Expression,
    parameter: FormalParameter,
    owner: str,
    env: Environment,
    known: Mapping[int, Any],
) -> tuple[Any, bool]:
    """The value of an argument as its parameter wants it, and whether it is one.

    A bare name is a word where the parameter takes that word, unless the name is bound to a value that fits.
    """
    if id(node) in known:
        value = known[id(node)]
    elif isinstance(node, ast.Name) and node.name in words_of(parameter.annotation):
        value = env.get(node.name)
        if value is NOT_FOUND or not _fits(value, parameter.annotation):
            value = Word(node.name)
    elif parameter.annotation is str and (text := _dotted(node, env)) is not None:
        value = text
    elif (condition := _condition(evaluator, node, parameter, owner, env)) is not None:
        return condition
    elif (chosen := _member(evaluator, node, parameter.annotation, env)) is not None:
        return chosen
    else:
        value = evaluator.evaluate(node, env)
    return typed(evaluator.report, value, parameter, owner, node.span)


def _dotted(node: ast.Expression, env: Environment) -> str | None:
    """The text of a name that nothing defines (`monitor=val.error`): what a parameter that takes texts makes of it."""
    if isinstance(node, ast.Attribute):
        left = _dotted(node.value, env)
        return f"{left}.{node.name.name}" if left is not None else None
    return node.name if isinstance(node, ast.Name) and env.get(node.name) is NOT_FOUND else None


def _condition(
    evaluator: Evaluator, node: ast.Expression, parameter: FormalParameter, owner: str, env: Environment
) -> tuple[Any, bool] | None:
    """`until=train.error < 80%`; None where the parameter takes no condition or the argument is none."""
    condition = condition_of(parameter.annotation)
    if condition is None or not isinstance(node, ast.Binary) or node.operator not in ("<", ">"):
        return None
    monitor = _dotted(node.left, env)
    if monitor is None:
        return None
    bound = FormalParameter(parameter.name, float, field=parameter.field)
    value, good = typed(evaluator.report, evaluator.evaluate(node.right, env), bound, owner, node.right.span)
    return (condition(monitor, node.operator, value), True) if good else (POISON, False)


def _member(evaluator: Evaluator, node: ast.Expression, annotation: Any, env: Environment) -> tuple[Any, bool] | None:
    """An argument that is itself out of a catalog (`init=he`); None where the parameter takes plain values."""
    catalog = evaluator.vocabulary.catalog_for(annotation)
    if catalog is None:
        return None
    name = node.function if isinstance(node, ast.Call) else node
    if not isinstance(name, ast.Name) or env.get(name.name) is not NOT_FOUND:
        return None
    if name.name not in catalog:
        evaluator.error("E0401", f"unknown name `{name.name}`", name.span, help=did_you_mean(name.name, catalog))
        return POISON, False
    made = member(evaluator, catalog[name.name], annotation.__name__.lower(), node, env)
    return made, made is not None


def member(evaluator: Evaluator, item: type[Any], what: str, node: ast.Expression, env: Environment) -> Any | None:
    """An instance of a catalog's class from `name` or `name(arguments)`; None where something is wrong with it."""
    arguments = node.arguments if isinstance(node, ast.Call) else ()
    place = node.function.span if isinstance(node, ast.Call) else node.span
    signature = signature_of(item, what)
    bound, good = bind(evaluator.report, signature, arguments, place)
    values, spans = {}, {}
    for name, argument in bound.items():
        parameter = signature.find(name)
        assert parameter is not None
        value, fits = argument_value(evaluator, argument.value, parameter, signature.name, env, {})
        good &= fits
        values[parameter.field], spans[parameter.field] = value, argument.value.span
    return construct(evaluator.report, item, signature, values, node.span, spans) if good else None


def _fits(value: Any, annotation: Any) -> bool:
    try:
        convert(value, annotation)
    except Mismatch:
        return False
    return True


def instantiate_layer(
    evaluator: Evaluator, function: LayerFunction, values: Mapping[str, Any], spans: Mapping[str, Span], span: Span
) -> Stage:
    """A fresh stage of one layer; unknown where the layer refuses its arguments."""
    signature = signature_of(function.layer)
    if not values and any(p.required for p in signature.parameters):
        bind(evaluator.report, signature, (), span)
        return UnknownStage(span)
    layer = construct(evaluator.report, function.layer, signature, values, span, spans)
    return UnknownStage(span) if layer is None else LayerStage(span, layer)


def _call_block(
    evaluator: Evaluator,
    function: BlockFunction,
    node: ast.Call,
    arguments: Sequence[ast.Argument],
    env: Environment,
    known: Mapping[int, Any],
) -> Stage:
    positional = sum(a.name is None for a in arguments)
    if positional > len(function.parameters) and any(isinstance(v, Poison) for v in known.values()):
        return UnknownStage(node.span)  # the unknown value may be a tensor
    bound, good = bind_declared(evaluator, function, "block", arguments, node.function.span)
    values = declared_values(evaluator, function.name, function.parameters, bound, env, known)
    if not good:
        return UnknownStage(node.span)
    return instantiate_block(evaluator, function, values, node.span)


def bind_declared(
    evaluator: Evaluator,
    function: BlockFunction | ModelFunction,
    what: str,
    arguments: Sequence[ast.Argument],
    place: Span,
) -> tuple[dict[str, ast.Argument], bool]:
    """The arguments of a block's or a model's call by parameter, and whether all is well."""
    signature = declared_signature(function.name, what, function.parameters)
    return bind(evaluator.report, signature, arguments, place)


def declared_signature(name: str, what: str, parameters: Sequence[Parameter]) -> Signature:
    """The signature of a block or a model."""
    formal = []
    for p in parameters:
        required = FormalParameter(p.name, p.annotation, field=p.name)
        formal.append(required if p.default is None else FormalParameter(p.name, p.annotation, p.default, p.name))
    return Signature(name, what, tuple(formal))


def declared_values(
    evaluator: Evaluator,
    owner: str,
    parameters: Sequence[Parameter],
    bound: Mapping[str, ast.Argument],
    env: Environment,
    known: Mapping[int, Any],
) -> dict[str, Any]:
    """The arguments' values by parameter, as their types want them; unknown where one does not suit its type."""
    values: dict[str, Any] = {}
    for p in parameters:
        if p.name in bound:
            formal = FormalParameter(p.name, p.annotation, field=p.name)
            values[p.name], _ = argument_value(evaluator, bound[p.name].value, formal, owner, env, known)
    return values


def instantiate_block(evaluator: Evaluator, function: BlockFunction, values: Mapping[str, Any], span: Span) -> Stage:
    """A fresh stage of one block call, with the defaults of what was not given."""
    missing = [p.name for p in function.parameters if p.default is None and p.name not in values]
    if missing:
        bind_declared(evaluator, function, "block", (), span)
        return UnknownStage(span)
    complete = with_defaults(evaluator, function, values)
    return BlockStage(span, function, complete)


def with_defaults(
    evaluator: Evaluator, function: BlockFunction | ModelFunction, values: Mapping[str, Any]
) -> dict[str, Any]:
    """All parameters: the given ones, and the defaults of the others, which may use the parameters before them."""
    complete: dict[str, Any] = {}
    scope = Environment(function.environment, complete)
    for p in function.parameters:
        if p.name in values:
            complete[p.name] = values[p.name]
        elif p.default is not None:
            formal = FormalParameter(p.name, p.annotation, field=p.name)
            complete[p.name], _ = argument_value(evaluator, p.default, formal, function.name, scope, {})
    return complete


def _call_lambda(evaluator: Evaluator, function: LambdaFunction, node: ast.Call, env: Environment) -> Any:
    for argument in node.arguments:
        if argument.name is not None:
            return evaluator.error("E0501", "a function takes its arguments by position", argument.name.span)
    values = [evaluator.evaluate(a.value, env) for a in node.arguments]
    return run_lambda(evaluator, function, values, node.span)
