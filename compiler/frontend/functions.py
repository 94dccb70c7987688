"""The built-in functions: combinators that make stages, and arithmetic over lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlc.compiler.frontend import ast, operators
from dlc.compiler.frontend.copies import copy_stage, count_stages
from dlc.compiler.frontend.environment import Environment
from dlc.compiler.frontend.lambdas import run_lambda
from dlc.compiler.frontend.operators import is_number
from dlc.compiler.frontend.values import (
    POISON,
    ForkStage,
    IdentityStage,
    LambdaFunction,
    NumberedStage,
    Poison,
    ResidualStage,
    Stage,
    UnknownStage,
    kind,
)
from dlc.compiler.network import Tensor

if TYPE_CHECKING:
    from dlc.compiler.frontend.evaluator import Evaluator

Arguments = Sequence[ast.Argument]
Known = Mapping[int, Any]


@dataclass(frozen=True)
class Builtin:
    """A built-in function. A combinator gives a stage, so tensors in front of its arguments flow into it.

    `run(evaluator, call, arguments, environment, known)`: `known` holds values that were evaluated already, by the
    identity of their node.
    """

    usage: str
    run: Callable[[Evaluator, ast.Call, Arguments, Environment, Known], Any]
    combinator: bool = False


def _values(
    evaluator: Evaluator,
    node: ast.Call,
    arguments: Arguments,
    env: Environment,
    known: Known,
    names: Sequence[str],
    needed: int,
) -> dict[str, tuple[Any, ast.Expression]] | None:
    """The arguments by name, each with its node; None where their number or names are wrong, which is reported."""
    name, found, good = node.function.span.text, {}, True
    for i, argument in enumerate(arguments):
        value = known[id(argument.value)] if id(argument.value) in known else evaluator.evaluate(argument.value, env)
        if argument.name is None and i >= len(names):
            help = f"it is called as {BUILTINS[name].usage}" if name in BUILTINS else ""
            evaluator.error("E0503", f"`{name}` takes {len(names)} argument{'s' * (len(names) != 1)} at most, not {len(arguments)}",
                            argument.span, help=help)  # fmt: skip
            return None
        key = argument.name.name if argument.name is not None else names[i]
        if key not in names or (argument.name is not None and key in found):
            code, what = (
                ("E0504", f"`{key}` of `{name}` is given twice")
                if key in found
                else ("E0501", f"`{name}` has no argument `{key}`")
            )
            place = argument.name.span if argument.name is not None else argument.span
            evaluator.error(
                code, what, place, help=f"it is called as {BUILTINS[name].usage}" if name in BUILTINS else ""
            )
            good = False
        found[key] = (value, argument.value)
    missing = [n for n in names[:needed] if n not in found]
    if missing and good:
        help = f"it is called as {BUILTINS[name].usage}" if name in BUILTINS else ""
        evaluator.error("E0502", f"`{name}` needs `{missing[0]}`", node.function.span, help=help)
    return found if good and not missing else None


def _positional(
    evaluator: Evaluator, node: ast.Call, arguments: Arguments, env: Environment, known: Known
) -> list[tuple[Any, ast.Expression]] | None:
    """The arguments' values, each with its node; None where one is named."""
    found, good = [], True
    for argument in arguments:
        value = known[id(argument.value)] if id(argument.value) in known else evaluator.evaluate(argument.value, env)
        if argument.name is not None:
            evaluator.error("E0501", f"`{node.function.span.text}` takes no named arguments", argument.name.span)
            good = False
        found.append((value, argument.value))
    return found if good else None


def fork(evaluator: Evaluator, node: ast.Call, arguments: Arguments, env: Environment, known: Known) -> Any:
    """`fork(a, b, …)`: the same input to each stage; the result is a tuple."""
    given = _positional(evaluator, node, arguments, env, known)
    if given is None:
        return UnknownStage(node.span)
    if not given:
        evaluator.error(
            "E0502", "`fork` needs a stage", node.function.span, help=f"it is called as {BUILTINS['fork'].usage}"
        )
        return UnknownStage(node.span)
    return ForkStage(node.span, tuple(evaluator.stage(v, n.span) for v, n in given))


def residual(evaluator: Evaluator, node: ast.Call, arguments: Arguments, env: Environment, known: Known) -> Any:
    """`residual(body, shortcut=identity)`: `fork(body, shortcut) -> add`."""
    given = _values(evaluator, node, arguments, env, known, ("body", "shortcut"), 1)
    if given is None:
        return UnknownStage(node.span)
    body = evaluator.stage(given["body"][0], given["body"][1].span)
    if "shortcut" not in given:
        return ResidualStage(node.function.span, body, IdentityStage(node.span))
    return ResidualStage(node.function.span, body, evaluator.stage(given["shortcut"][0], given["shortcut"][1].span))


def repeat(evaluator: Evaluator, node: ast.Call, arguments: Arguments, env: Environment, known: Known) -> Any:
    """`repeat(n, stage)`: n fresh copies in a row; `repeat(n, i => stage)`: a stage for each i from 0."""
    given = _values(evaluator, node, arguments, env, known, ("n", "stage"), 2)
    if given is None:
        return UnknownStage(node.span)
    (count, count_node), (item, item_node) = given["n"], given["stage"]
    if isinstance(count, Poison):
        if isinstance(item, LambdaFunction):
            run_lambda(evaluator, item, [POISON] * len(item.parameters), item_node.span)
        return UnknownStage(node.span)
    if not isinstance(count, int) or isinstance(count, bool):
        evaluator.error("E0505", f"`n` of `repeat` must be an integer, not {kind(count)}", count_node.span)
        return UnknownStage(node.span)
    if count < 0:
        evaluator.error("E0506", f"`n` of `repeat` must not be negative, not {count}", count_node.span)
        return UnknownStage(node.span)
    _prepare(evaluator, count, node)
    if isinstance(item, LambdaFunction):
        made = [run_lambda(evaluator, item, [i], item_node.span) for i in range(count)]
        stages = [evaluator.stage(value, item.body.span) for value in made]
    else:
        first = evaluator.stage(item, item_node.span)
        _prepare(evaluator, count * (count_stages(first, evaluator.limits.layers) - 1), node)
        stages = [copy_stage(first) for _ in range(count)]
    return NumberedStage(node.span, tuple(stages), "repeat")


def chain(evaluator: Evaluator, node: ast.Call, arguments: Arguments, env: Environment, known: Known) -> Any:
    """`chain(list)`: the stages of a list in a row."""
    given = _values(evaluator, node, arguments, env, known, ("list",), 1)
    if given is None or isinstance(given["list"][0], Poison):
        return UnknownStage(node.span)
    items, items_node = given["list"]
    if not isinstance(items, (list, tuple)):
        help = "write `a -> b`, or `chain([a, b])`" if isinstance(items, Stage) else ""
        evaluator.error(
            "E0505", f"`list` of `chain` must be a list of stages, not {kind(items)}", items_node.span, help=help
        )
        return UnknownStage(node.span)
    _prepare(evaluator, len(items), node)
    places = items_node.items if isinstance(items_node, ast.List) else [items_node] * len(items)
    return NumberedStage(
        node.span, tuple(evaluator.stage(v, p.span) for v, p in zip(items, places, strict=True)), "chain"
    )


def _prepare(evaluator: Evaluator, count: int, node: ast.Call) -> None:
    evaluator.assembly.prepared += count
    if evaluator.assembly.prepared > evaluator.limits.layers:
        message = (
            f"this makes {evaluator.assembly.prepared:,} stages" if count < 10**15 else "this makes too many stages"
        )
        raise evaluator.stop("E0904", message, node.span, f"a network has at most {evaluator.limits.layers:,} layers")


def _sequence(work: Callable[[Evaluator, list[Any], ast.Expression], Any]) -> Callable[..., Any]:
    """A function of one list."""

    def run(evaluator: Evaluator, node: ast.Call, arguments: Arguments, env: Environment, known: Known) -> Any:
        given = _values(evaluator, node, arguments, env, known, ("list",), 1)
        if given is None:
            return POISON
        value, place = given["list"]
        values = evaluator.iterable(value, place.span)
        return POISON if isinstance(values, Poison) else work(evaluator, values, place)

    return run


def _length(evaluator: Evaluator, node: ast.Call, arguments: Arguments, env: Environment, known: Known) -> Any:
    given = _values(evaluator, node, arguments, env, known, ("list",), 1)
    if given is None or isinstance(given["list"][0], Poison):
        return POISON
    value, place = given["list"]
    if isinstance(value, (list, tuple, range, str)):
        try:
            return len(value)
        except OverflowError:
            raise evaluator.stop(
                "E0907", f"this range is longer than {evaluator.limits.list_length:,} items", place.span
            ) from None
    return evaluator.error("E0512", f"{kind(value)} has no length", place.span)


def _sum(evaluator: Evaluator, values: list[Any], place: ast.Expression) -> Any:
    """The sum of numbers; lists are joined."""
    if any(isinstance(v, Poison) for v in values):
        return POISON
    if values and all(isinstance(v, (list, range)) for v in values):
        if sum(map(len, values)) > evaluator.limits.list_length:
            raise evaluator.stop(
                "E0907", f"this list is longer than {evaluator.limits.list_length:,} items", place.span
            )
        return [item for value in values for item in value]
    wrong = next((v for v in values if not is_number(v)), None)
    if wrong is not None:
        help = "`add` sums tensors: `add(a, b)`, `fork(a, b) -> add`" if isinstance(wrong, Tensor) else ""
        return evaluator.error("E0507", f"`sum` takes numbers or lists, not {kind(wrong)}", place.span, help=help)
    return evaluator.guarded(place.span, lambda: operators.within_size(sum(values), evaluator.limits))


def _extreme(name: str, better: str) -> Callable[..., Any]:
    """`min` and `max`, of a list or of several numbers."""

    def run(evaluator: Evaluator, node: ast.Call, arguments: Arguments, env: Environment, known: Known) -> Any:
        given = _positional(evaluator, node, arguments, env, known)
        if given is None:
            return POISON
        values = [v for v, _ in given]
        if len(values) == 1:
            values = evaluator.iterable(values[0], given[0][1].span)
        if isinstance(values, Poison) or any(isinstance(v, Poison) for v in values):
            return POISON
        if not len(values):
            return evaluator.error("E0512", f"`{name}` of nothing", node.span)
        best = values[0]
        for value in values:
            if not is_number(value):
                return evaluator.error("E0507", f"`{name}` takes numbers, not {kind(value)}", node.span)
            if operators.binary(better, value, best, evaluator.limits):
                best = value
        return best

    return run


def _range(evaluator: Evaluator, node: ast.Call, arguments: Arguments, env: Environment, known: Known) -> Any:
    given = _positional(evaluator, node, arguments, env, known)
    if given is None or any(isinstance(v, Poison) for v, _ in given):
        return POISON
    for value, place in given:
        if not isinstance(value, int) or isinstance(value, bool):
            return evaluator.error("E0505", f"`range` takes integers, not {kind(value)}", place.span)
    if not 1 <= len(given) <= 3:
        code = "E0503" if given else "E0502"
        return evaluator.error(
            code, "`range` takes 1 to 3 integers", node.span, help=f"it is called as {BUILTINS['range'].usage}"
        )
    if len(given) == 3 and given[2][0] == 0:
        return evaluator.error("E0506", "the step of `range` must not be 0", given[2][1].span)
    return range(*(v for v, _ in given))


def _zip(evaluator: Evaluator, node: ast.Call, arguments: Arguments, env: Environment, known: Known) -> Any:
    given = _positional(evaluator, node, arguments, env, known)
    if given is None:
        return POISON
    lists = [evaluator.iterable(v, place.span) for v, place in given]
    if any(isinstance(v, Poison) for v in lists):
        return POISON
    if len({len(v) for v in lists}) > 1:
        lengths = " and ".join(str(len(v)) for v in lists)
        return evaluator.error("E0512", f"`zip` takes lists of one length, not of {lengths}", node.span)
    return list(zip(*lists, strict=True))


def _enumerate(evaluator: Evaluator, values: list[Any], place: ast.Expression) -> Any:
    return list(enumerate(values))


BUILTINS: dict[str, Builtin] = {
    "fork": Builtin("fork(a, b, …)", fork, combinator=True),
    "residual": Builtin("residual(body, shortcut=identity)", residual, combinator=True),
    "repeat": Builtin("repeat(n, stage) or repeat(n, i => stage)", repeat, combinator=True),
    "chain": Builtin("chain([a, b, …])", chain, combinator=True),
    "len": Builtin("len(list)", _length),
    "sum": Builtin("sum(list)", _sequence(_sum)),
    "min": Builtin("min(a, b, …) or min(list)", _extreme("min", "<")),
    "max": Builtin("max(a, b, …) or max(list)", _extreme("max", ">")),
    "range": Builtin("range(stop), range(start, stop) or range(start, stop, step)", _range),
    "enumerate": Builtin("enumerate(list)", _sequence(_enumerate)),
    "zip": Builtin("zip(a, b, …)", _zip),
}  # fmt: skip
"""The built-in functions by name."""
