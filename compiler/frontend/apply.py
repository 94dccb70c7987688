"""What a stage does to a tensor: layers become calls of the network, combinators pass tensors on, blocks run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.assembly import Registered
from dlc.compiler.frontend.calls import ActiveCall
from dlc.compiler.frontend.environment import Environment
from dlc.compiler.frontend.explain import explain_join, explain_shape
from dlc.compiler.frontend.values import (
    POISON,
    BlockFunction,
    BlockStage,
    ChainStage,
    ForkStage,
    FunctionStage,
    IdentityStage,
    LabelledStage,
    LambdaFunction,
    LayerFunction,
    LayerStage,
    NumberedStage,
    Poison,
    ResidualStage,
    Stage,
    is_tensors,
    kind,
    show_shape,
)
from dlc.compiler.ir import ShapeError
from dlc.compiler.network import LayerCall, Tensor
from dlc.compiler.source import Span

if TYPE_CHECKING:
    from dlc.compiler.frontend.evaluator import Evaluator


def apply_stage(
    evaluator: Evaluator, stage: Stage, value: Any, label: str | None = None, place: Span | None = None
) -> Any:
    """The result of a stage on a tensor, a tuple of tensors or something unknown.

    `label` is the name that a label or a number gives the stage, `place` where it stands. Raises Stop at a limit.
    """
    evaluator.steps += 1
    if evaluator.steps > evaluator.limits.evaluation_steps:
        raise evaluator.stop(
            "E0903", f"evaluation takes more than {evaluator.limits.evaluation_steps:,} steps", stage.span
        )
    if evaluator.depth >= evaluator.limits.expression_depth:
        raise evaluator.stop("E0902", "stages stand too deep inside one another", stage.span)
    evaluator.depth += 1
    try:
        if label is not None and not isinstance(stage, (LayerStage, BlockStage)):
            with evaluator.assembly.inside(evaluator, stage, "", label, place or stage.span):
                return _apply(evaluator, stage, value, None, stage.span)
        return _apply(evaluator, stage, value, label, place or stage.span)
    finally:
        evaluator.depth -= 1


def _apply(evaluator: Evaluator, stage: Stage, value: Any, label: str | None, place: Span) -> Any:
    match stage:
        case LayerStage():
            return _layer(evaluator, stage, value, label, place)
        case BlockStage():
            return _block(evaluator, stage, value, label, place)
        case ChainStage():
            for part in stage.stages:
                value = apply_stage(evaluator, part, value)
            return value
        case ForkStage():
            return tuple(apply_stage(evaluator, branch, value) for branch in stage.branches)
        case ResidualStage():
            return _residual(evaluator, stage, value)
        case NumberedStage():
            start = evaluator.assembly.first_number(stage)
            for i, part in enumerate(stage.stages, start):
                value = apply_stage(evaluator, part, value, str(i))
            return value
        case LabelledStage():
            return apply_stage(evaluator, stage.stage, value, stage.label, stage.span)
        case FunctionStage():
            body = Environment(stage.function.environment, {stage.function.parameters[0]: value})
            result = evaluator.evaluate(stage.function.body, body)
            return _flowing(evaluator, result, value, "a function", stage.function.body.span)
        case IdentityStage():
            return value
    return POISON


def _unknown(value: Any) -> bool:
    return isinstance(value, Poison) or (isinstance(value, tuple) and any(map(_unknown, value)))


def _flat(value: Any) -> tuple[Tensor, ...]:
    if isinstance(value, Tensor):
        return (value,)
    return tuple(t for v in value for t in _flat(v))


def _layer(evaluator: Evaluator, stage: LayerStage, value: Any, label: str | None, place: Span) -> Any:
    assembly, layer = evaluator.assembly, stage.layer
    name = assembly.name_of(evaluator, stage, layer.keyword, label, place)
    if _unknown(value):
        return POISON
    inputs = _flat(value)
    least, most = layer.arity
    if len(inputs) < least or (most is not None and len(inputs) > most):
        wants = "one tensor" if most == 1 else f"{least} tensors" if least == most else f"at least {least} tensors"
        help = "join them first: `-> concat` or `-> add`" if most is not None and len(inputs) > most else ""
        return evaluator.error("E0303", f"`{layer.keyword}` takes {wants}, not {len(inputs)}", stage.span, help=help)
    shapes = [t.shape for t in inputs]
    try:
        shape = tuple(layer.shape(*shapes))
    except ShapeError as error:
        return explain_shape(evaluator, stage, inputs, error)
    if not assembly.fits(evaluator, shape, stage.span):
        return POISON
    entry = _register(evaluator, stage, name, inputs)
    if entry is None:
        return POISON
    if len(assembly.calls) >= evaluator.limits.layers:
        raise evaluator.stop("E0904", f"a network has at most {evaluator.limits.layers:,} layers", stage.span)
    result = Tensor(shape, None, stage.span)
    call = LayerCall(name, layer, inputs, result, entry.parameters, entry.weights, stage.span, evaluator.frames)
    object.__setattr__(result, "producer", call)  # the two name each other; nothing else sees the tensor before
    assembly.calls.append(call)
    return result


def _register(evaluator: Evaluator, stage: LayerStage, name: str, inputs: tuple[Tensor, ...]) -> Registered | None:
    """The layer's weights under its name, made at its first use; None where a later use needs others."""
    assembly, layer = evaluator.assembly, stage.layer
    parameters = dict(layer.parameters(*(t.shape for t in inputs)))
    first = assembly.registered.get(name)
    if first is None:
        weights = {key: f"{name}.{key}" for key in parameters}
        first = assembly.registered[name] = Registered(layer, parameters, weights, stage.span)
        for spec in parameters.values():
            size = 1
            for n in spec.shape:
                size *= n
            assembly.parameter_elements += size
        if assembly.parameter_elements > evaluator.limits.parameter_elements:
            message = f"this layer brings the network to {assembly.parameter_elements:,} weights"
            raise evaluator.stop("E0906", message, stage.span, f"the limit is {evaluator.limits.parameter_elements:,}")
        return first
    then, now = ({k: s.shape for k, s in p.items()} for p in (first.parameters, parameters))
    if then == now:
        return first
    key = next((k for k in {**then, **now} if then.get(k) != now.get(k)), "weight")
    had = f"{show_shape(then[key])} at line {first.span.line}" if key in then else f"absent at line {first.span.line}"
    needs = f"{show_shape(now[key])}" if key in now else "absent"
    evaluator.error(
        "E0304", f"`{name}` cannot share its weights: `{key}` is {had}, but {needs} for {kind(inputs[0])}", stage.span,
        help="a name used twice shares one set of weights; write the call twice for weights of their own",
    )  # fmt: skip
    return None


def _residual(evaluator: Evaluator, stage: ResidualStage, value: Any) -> Any:
    body = apply_stage(evaluator, stage.body, value)
    shortcut = apply_stage(evaluator, stage.shortcut, value)
    add = LayerStage(stage.span, evaluator.vocabulary.layers["add"]())
    parts = (body, shortcut)
    for part, what in zip(parts, ("body", "shortcut"), strict=True):
        if not isinstance(part, (Tensor, Poison)):
            return evaluator.error("E0303", f"the {what} of `residual` gives {kind(part)}, not one tensor", stage.span)
    if _unknown(parts):
        return POISON
    if body.shape != shortcut.shape:
        return explain_join(evaluator, stage, value, body, shortcut)
    return _layer(evaluator, add, parts, None, stage.span)


def _block(evaluator: Evaluator, stage: BlockStage, value: Any, label: str | None, place: Span) -> Any:
    """Runs a block's body with `in` as its input. With an unknown input it runs once, to find mistakes, and no deeper."""
    block = stage.block
    unknown = _unknown(value) or any(isinstance(v, Poison) for v in stage.arguments.values())
    if unknown and block in evaluator.entered:
        return POISON
    evaluator.entered.add(block)
    env = Environment(block.environment, {**stage.arguments, "in": value})
    with (
        evaluator.assembly.inside(evaluator, stage, block.name, label, place),
        evaluator.inside(ActiveCall(block.name, stage.arguments, stage.span), stage.span),
    ):
        result, span = _body(evaluator, block.declaration, env)
        return _flowing(evaluator, result, value, f"block `{block.name}`", span)


def _body(evaluator: Evaluator, declaration: ast.Block, env: Environment) -> tuple[Any, Span]:
    """The value of a block's body, and the place of the expression that gave it."""
    body = declaration.body
    if not isinstance(body, ast.Body):
        return evaluator.evaluate(body, env), body.span
    result: Any = POISON  # an empty body has been reported by the structure check
    span = declaration.name.span
    for statement in body.statements:
        if isinstance(statement, ast.Assign):
            evaluator.assign(statement.targets, evaluator.evaluate(statement.value, env), env, statement.value.span)
            result = POISON
        elif isinstance(statement, ast.Evaluate) and not isinstance(statement.value, ast.Output):
            result, span = evaluator.evaluate(statement.value, env), statement.value.span
    return result, span


def _flowing(evaluator: Evaluator, result: Any, value: Any, what: str, span: Span) -> Any:
    """What a body gives: tensors as they are, a stage applied to the input; anything else is a mistake."""
    if _unknown(result) or is_tensors(result):
        return result
    if isinstance(result, Stage) or callable_as_stage(result):
        return apply_stage(evaluator, evaluator.stage(result, span), value)
    return evaluator.error("E0615", f"the value of {what} is {kind(result)}, neither a tensor nor a stage", span)


def callable_as_stage(value: Any) -> bool:
    """Whether a value is a name that stands for a stage: `relu`, a block without arguments."""
    return isinstance(value, (BlockFunction, LayerFunction, LambdaFunction))
