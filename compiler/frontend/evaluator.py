"""Evaluates expressions of the language to compile-time values, and goes on after a mistake with an unknown value.

One evaluator serves one file: it knows the vocabulary, collects diagnostics in a report and counts what limits bound.
What a stage does to a tensor is `apply.py`'s, what the built-in functions do is `functions.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlc.compiler.frontend import ast, operators
from dlc.compiler.frontend.apply import apply_stage
from dlc.compiler.frontend.call import call, instantiate_block, instantiate_layer
from dlc.compiler.frontend.environment import NOT_FOUND, Environment
from dlc.compiler.frontend.evaluation import Evaluation
from dlc.compiler.frontend.functions import BUILTINS
from dlc.compiler.frontend.operators import OperandError
from dlc.compiler.frontend.suggestions import did_you_mean, listing
from dlc.compiler.frontend.values import (
    POISON,
    BlockFunction,
    BuiltinFunction,
    ChainStage,
    FunctionStage,
    IdentityStage,
    LabelledStage,
    LambdaFunction,
    LayerFunction,
    LayerStage,
    Measure,
    ModelFunction,
    Module,
    Poison,
    Stage,
    UnknownStage,
    Word,
    is_tensors,
    kind,
    show_shape,
)
from dlc.compiler.layers.base import Layer
from dlc.compiler.network import Tensor
from dlc.compiler.source import Span

FACTS = ("channels", "height", "width", "shape", "features")


class Evaluator(Evaluation):
    """Expressions to values."""

    def evaluate(self, node: ast.Expression, env: Environment) -> Any:
        """The value of an expression; POISON where something is wrong with it. Raises Stop where a limit is passed."""
        self.steps += 1
        if self.steps > self.limits.evaluation_steps:
            raise self.stop("E0903", f"evaluation takes more than {self.limits.evaluation_steps:,} steps", node.span)
        if self.depth >= self.limits.expression_depth:
            raise self.stop("E0902", "expressions stand too deep inside one another", node.span)
        self.depth += 1
        try:
            return EXPRESSIONS[type(node)](self, node, env)
        finally:
            self.depth -= 1

    def name(self, node: ast.Name, env: Environment) -> Any:
        """What a name stands for: a definition, else a word of the language."""
        value = env.get(node.name)
        if value is not NOT_FOUND:
            return value
        known = self.known(node.name, node.span)
        if known is not NOT_FOUND:
            return known
        if node.name == "in":
            return self.error("E0406", "`in` is a block's input; there is none here", node.span)
        if self.report.has(node.span, "E0401") or self.report.has(node.span, "E0407"):
            self.report.count += 1
            return POISON
        candidates = {*env.visible(), *self.vocabulary.layers, *BUILTINS, "identity"}
        return self.error("E0401", f"unknown name `{node.name}`", node.span, help=did_you_mean(node.name, candidates))

    def known(self, name: str, span: Span) -> Any:
        """What a name stands for that no file defines: a layer, a function, a word; NOT_FOUND otherwise."""
        if name == "identity":
            return IdentityStage(span)
        if name == "none":
            return None
        layer = self.vocabulary.layers.get(name)
        if layer is not None:
            return LayerFunction(name, layer)
        if name in BUILTINS:
            return BuiltinFunction(name)
        return Word(name) if name in self.vocabulary.words else NOT_FOUND

    def number(self, node: ast.Number, env: Environment) -> Any:
        """A number, with its unit where it has one."""
        try:
            value = operators.within_size(node.value, self.limits)
        except OperandError as error:
            return self.error(error.code, str(error), node.span, help=error.help)
        return Measure(value, node.unit) if node.unit else value

    def string(self, node: ast.String, env: Environment) -> Any:
        """A text."""
        return self.guarded(node.span, lambda: operators.within_string(node.value, self.limits))

    def guarded(self, span: Span, work: Callable[[], Any]) -> Any:
        """The result of an operation, POISON where it refuses its operands."""
        try:
            return work()
        except OperandError as error:
            return self.error(error.code, str(error), span, help=error.help)

    def make_list(self, node: ast.List, env: Environment) -> Any:
        """`[a, b]`."""
        items = [self.evaluate(item, env) for item in node.items]
        return self.guarded(node.span, lambda: operators.within_length(items, self.limits))

    def make_tuple(self, node: ast.Tuple, env: Environment) -> Any:
        """`(a, b)`."""
        return tuple(self.evaluate(item, env) for item in node.items)

    def make_range(self, node: ast.Range, env: Environment) -> Any:
        """`start..stop`: integers, the stop excluded."""
        ends = [self.evaluate(end, env) for end in (node.start, node.stop)]
        if any(isinstance(e, Poison) for e in ends):
            return POISON
        for end, part in zip(ends, (node.start, node.stop), strict=True):
            if not isinstance(end, int) or isinstance(end, bool):
                return self.error("E0507", f"a range goes from integer to integer, not to {kind(end)}", part.span)
        return range(ends[0], ends[1])

    def unary(self, node: ast.Unary, env: Environment) -> Any:
        """`-a`, `+a`, `not a`."""
        value = self.evaluate(node.operand, env)
        if isinstance(value, Poison):
            return POISON
        if node.operator == "not":
            return self.truth(value, node.operand.span, "`not`", negated=True)
        return self.guarded(node.span, lambda: operators.negate(node.operator, value))

    def truth(self, value: Any, span: Span, what: str, *, negated: bool = False) -> Any:
        """A boolean as it is; anything else is a mistake (0 and empty lists are not false)."""
        if isinstance(value, bool):
            return value != negated
        if isinstance(value, Poison):
            return POISON
        return self.error(
            "E0513", f"{what} takes `true` or `false`, not {kind(value)}", span, help="compare it: `n > 0`"
        )

    def binary(self, node: ast.Binary, env: Environment) -> Any:
        """Operators; of tensors, `+` and `*`."""
        left = self.evaluate(node.left, env)
        if node.operator in ("and", "or"):
            return self.junction(node, left, env)
        right = self.evaluate(node.right, env)
        if isinstance(left, Poison) or isinstance(right, Poison):
            return POISON
        if isinstance(left, (Tensor, Stage)) or isinstance(right, (Tensor, Stage)):
            return self.tensor_operator(node, left, right)
        return self.guarded(node.span, lambda: operators.binary(node.operator, left, right, self.limits))

    def junction(self, node: ast.Binary, left: Any, env: Environment) -> Any:
        """`and`, `or`: the right side is evaluated only where it decides."""
        what = f"`{node.operator}`"
        first = self.truth(left, node.left.span, what)
        if isinstance(first, bool) and first == (node.operator == "or"):
            return first
        second = self.truth(self.evaluate(node.right, env), node.right.span, what)
        return second if isinstance(first, bool) else POISON

    def tensor_operator(self, node: ast.Binary, left: Any, right: Any) -> Any:
        """`+` and `*` of tensors; with a number, the layers `offset` and `scale`."""
        if isinstance(left, Stage) or isinstance(right, Stage):
            word = {"+": "add", "*": "multiply"}.get(node.operator, "add")
            return self.error(
                "E0507", f"`{node.operator}` takes tensors, not stages", node.span,
                help=f"`->` binds loosest: write `(x -> a) {node.operator} (x -> b)`, or `fork(a, b) -> {word}`",
            )  # fmt: skip
        layers = self.vocabulary.layers
        if isinstance(left, Tensor) and isinstance(right, Tensor):
            keyword = {"+": "add", "*": "multiply"}.get(node.operator, "")
            if keyword in layers:
                return apply_stage(self, LayerStage(node.span, layers[keyword]()), (left, right))
        else:
            tensor, number = (left, right) if isinstance(left, Tensor) else (right, left)
            keyword = {"+": "offset", "*": "scale"}.get(node.operator, "")
            if keyword in layers and operators.is_number(number):
                make: Callable[[float], Layer] = layers[keyword]
                return apply_stage(self, LayerStage(node.span, make(float(number))), tensor)
        message = f"`{node.operator}` does not work on {kind(left)} and {kind(right)}"
        return self.error("E0507", message, node.span, help="tensors take `+` and `*`")

    def conditional(self, node: ast.Conditional, env: Environment) -> Any:
        """`a if c else b`; where the condition is unknown, both sides are looked at for mistakes."""
        condition = self.truth(self.evaluate(node.condition, env), node.condition.span, "a condition")
        if isinstance(condition, Poison):
            self.evaluate(node.value, env)
            self.evaluate(node.otherwise, env)
            return POISON
        return self.evaluate(node.value if condition else node.otherwise, env)

    def comprehension(self, node: ast.Comprehension, env: Environment) -> Any:
        """`[f(a) for a in list if c]`."""
        items: list[Any] = []
        good = self.loop(node, 0, env, items)
        return items if good else POISON

    def loop(self, node: ast.Comprehension, level: int, env: Environment, items: list[Any]) -> bool:
        """Runs the clauses from `level` on, and appends to `items`; whether all could be run."""
        if level == len(node.clauses):
            items.append(self.evaluate(node.element, env))
            if len(items) > self.limits.list_length:
                raise self.stop("E0907", f"this list is longer than {self.limits.list_length:,} items", node.span)
            return True
        clause, good = node.clauses[level], True
        values = self.iterable(self.evaluate(clause.iterable, env), clause.iterable.span)
        if isinstance(values, Poison):
            unknown = Environment(env, {n.name: POISON for n in clause.names})
            self.loop(node, level + 1, unknown, [])
            return False
        for value in values:
            inner = Environment(env)
            good &= self.assign(clause.names, value, inner, clause.iterable.span)
            conditions = [self.truth(self.evaluate(c, inner), c.span, "a condition") for c in clause.conditions]
            good &= not any(isinstance(c, Poison) for c in conditions)
            if all(c is True for c in conditions):
                good &= self.loop(node, level + 1, inner, items)
        return good

    def iterable(self, value: Any, span: Span) -> Any:
        """What a comprehension runs over; POISON for anything else."""
        if isinstance(value, (list, tuple, range)):
            if len(value) > self.limits.list_length:
                raise self.stop("E0907", f"this list is longer than {self.limits.list_length:,} items", span)
            return value
        if isinstance(value, Poison):
            return POISON
        help = f"count with `0..{value}`" if isinstance(value, int) and not isinstance(value, bool) else ""
        return self.error("E0512", f"{kind(value)} is not a list", span, help=help)

    def assign(self, names: Sequence[ast.Name], value: Any, env: Environment, span: Span) -> bool:
        """Binds one name to a value, or several to the items of one; whether the numbers agree."""
        if len(names) == 1:
            env.names[names[0].name] = value
            return True
        if isinstance(value, (list, tuple, range)) and len(value) == len(names):
            env.names.update({n.name: v for n, v in zip(names, value, strict=True)})
            return True
        env.names.update({n.name: POISON for n in names})
        if not isinstance(value, Poison):
            has = f"{len(value)} values" if isinstance(value, (list, tuple, range)) else kind(value)
            self.error("E0511", f"{len(names)} names cannot take {has}", names[0].span.to(names[-1].span))
        return False

    def function(self, node: ast.Lambda, env: Environment) -> Any:
        """`i => …`."""
        return LambdaFunction(tuple(p.name for p in node.parameters), node.body, env, node.span)

    def call(self, node: ast.Call, env: Environment) -> Any:
        """`f(a, b=c)`."""
        return call(self, node, env)

    def index(self, node: ast.Index, env: Environment) -> Any:
        """`list[i]`, `list[i..j]`."""
        value, index = self.evaluate(node.value, env), self.evaluate(node.index, env)
        if isinstance(value, Poison) or isinstance(index, Poison):
            return POISON
        if not isinstance(value, (list, tuple, range)):
            return self.error("E0512", f"{kind(value)} has no items", node.value.span)
        if isinstance(index, range):
            return value[index.start : index.stop]
        if not isinstance(index, int) or isinstance(index, bool):
            return self.error("E0512", f"an index is an integer, not {kind(index)}", node.index.span)
        if not -len(value) <= index < len(value):
            last = f"the last is [{len(value) - 1}]" if len(value) else "it is empty"
            return self.error(
                "E0512", f"there is no item {index} in a list of {len(value)}", node.index.span, help=last
            )
        return value[index]

    def attribute(self, node: ast.Attribute, env: Environment) -> Any:
        """`in.channels`, `r.Basic`."""
        value, name = self.evaluate(node.value, env), node.name.name
        if isinstance(value, Poison):
            return POISON
        if isinstance(value, Module):
            found = value.names.get(name, NOT_FOUND)
            if found is not NOT_FOUND:
                return found
            help = did_you_mean(name, value.names) or f"it defines {listing(value.names)}"
            return self.error("E0402", f"`{value.name}` defines no `{name}`", node.name.span, help=help)
        if not isinstance(value, Tensor):
            message = f"{kind(value)} has no `{name}`"
            return self.error("E0404", message, node.name.span, help="tensors have facts: `in.channels`, `in.shape`")
        if name not in FACTS:
            help = did_you_mean(name, FACTS) or f"there are {listing(FACTS)}"
            return self.error("E0404", f"a tensor has no `{name}`", node.name.span, help=help)
        if name in ("height", "width", "shape"):
            self.assembly.measured = self.assembly.measured or node.span
        if name == "shape":
            return list(value.shape)
        axis = {"channels": 0, "features": 0, "height": 1, "width": 2}[name]
        if axis >= len(value.shape) or (name == "features" and len(value.shape) != 1):
            return self.error("E0305", f"a tensor of shape {show_shape(value.shape)} has no {name}", node.name.span)
        return value.shape[axis]

    # Stages

    def labelled(self, node: ast.Labelled, env: Environment) -> Any:
        """`c1: conv(6, 5)`."""
        value = self.evaluate(node.stage, env)
        if is_tensors(value):
            help = f"a label names weights; write `{node.label.name} = …` to name a tensor"
            return self.error("E0605", "a label stands before a stage, not before a tensor", node.label.span, help=help)
        return LabelledStage(node.label.span, node.label.name, self.stage(value, node.stage.span))

    def chain(self, node: ast.Chain, env: Environment) -> Any:
        """`a -> b`: runs where a tensor stands in front, else makes a stage."""
        first = self.evaluate(node.stages[0], env)
        if is_tensors(first) or isinstance(first, (Poison, UnknownStage)):
            value = POISON if isinstance(first, UnknownStage) else first
            for item in node.stages[1:]:
                if isinstance(item, ast.Output):
                    self.assembly.add_output(self, item, value)
                    return value
                value = apply_stage(self, self.stage(self.evaluate(item, env), item.span), value)
            return value
        stages = [self.stage(first, node.stages[0].span)]
        for item in node.stages[1:]:
            if isinstance(item, ast.Output):
                return self.error(
                    "E0604", f"no tensor flows to output `{item.name.name}`: the chain starts with {kind(first)}",
                    node.stages[0].span, help="start with an input: `image -> …`",
                )  # fmt: skip
            stages.append(self.stage(self.evaluate(item, env), item.span))
        return ChainStage(node.span, tuple(stages))

    def stage(self, value: Any, span: Span) -> Stage:
        """A value as a stage: bare names of layers and blocks are called without arguments, functions of a tensor wrapped."""
        match value:
            case Stage():
                return value
            case LayerFunction():
                return instantiate_layer(self, value, {}, {}, span)
            case BlockFunction():
                return instantiate_block(self, value, {}, span)
            case LambdaFunction() if len(value.parameters) == 1:
                return FunctionStage(span, value)
            case Poison():
                return UnknownStage(span)
        help = ""
        if is_tensors(value):
            message, help = (
                f"{kind(value)} is not a stage",
                "a tensor stands at the front of a chain; `fork` feeds several stages",
            )
        elif isinstance(value, ModelFunction):
            message, help = (
                f"{kind(value)} is not a stage",
                "a model has inputs and outputs of its own; make its body a block",
            )
        elif isinstance(value, (list, tuple)):
            message, help = f"{kind(value)} is not a stage", "`chain(list)` puts the stages of a list in a row"
        elif isinstance(value, BuiltinFunction):
            message, help = f"{kind(value)} is not a stage by itself", "call it with stages or values"
        else:
            message = f"{kind(value)} is not a stage"
        self.error("E0514", message, span, help=help)
        return UnknownStage(span)

    def misplaced(self, node: ast.Expression, env: Environment) -> Any:
        """What only settings can hold."""
        return self.error("E0515", "this is written in data and train sections only", node.span)


EXPRESSIONS: dict[type[ast.Node], Callable[[Evaluator, Any, Environment], Any]] = {
    ast.Name: Evaluator.name,
    ast.Number: Evaluator.number,
    ast.String: Evaluator.string,
    ast.Boolean: lambda self, node, env: node.value,
    ast.List: Evaluator.make_list,
    ast.Tuple: Evaluator.make_tuple,
    ast.Comprehension: Evaluator.comprehension,
    ast.Range: Evaluator.make_range,
    ast.Unary: Evaluator.unary,
    ast.Binary: Evaluator.binary,
    ast.Conditional: Evaluator.conditional,
    ast.Lambda: Evaluator.function,
    ast.Call: Evaluator.call,
    ast.Index: Evaluator.index,
    ast.Attribute: Evaluator.attribute,
    ast.Labelled: Evaluator.labelled,
    ast.Chain: Evaluator.chain,
    ast.Then: Evaluator.misplaced,
    ast.FromFile: Evaluator.misplaced,
}
"""What each kind of expression means."""
