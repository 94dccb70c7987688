"""Looks every name of a file's blocks and models up, used or not, and what their bodies are made of.

This needs no values: a block that nothing calls is checked as well. What depends on values (arguments, shapes) is the
evaluator's, which looks names up again and reports the same mistakes at the same places, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.convert import words_of
from dlc.compiler.frontend.functions import BUILTINS
from dlc.compiler.frontend.report import Report
from dlc.compiler.frontend.signatures import signature_of
from dlc.compiler.frontend.suggestions import closest, listing
from dlc.compiler.frontend.vocabulary import Vocabulary
from dlc.compiler.source import Span


@dataclass
class Names:
    """The names of one scope: where each is defined, which are used, which come later in the same body."""

    parent: Names | None = None
    defined: dict[str, Span] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    later: frozenset[str] = frozenset()

    def use(self, name: str) -> bool:
        """Notes a use of a name; whether it is known here."""
        scope: Names | None = self
        while scope is not None:
            if name in scope.defined:
                scope.used.add(name)
                return True
            scope = scope.parent
        return False

    def visible(self) -> Iterator[str]:
        """Every name that can be used here, innermost first."""
        scope: Names | None = self
        while scope is not None:
            yield from scope.defined
            scope = scope.parent

    def comes_later(self, name: str) -> bool:
        """Whether the same body, or one around it, defines the name further down; that counts as a use."""
        scope: Names | None = self
        while scope is not None:
            if name in scope.later:
                scope.used.add(name)
                return True
            scope = scope.parent
        return False


class NameChecker:
    """Checks the definitions of one file against the names it defines and imports."""

    def __init__(self, report: Report, vocabulary: Vocabulary, file_names: Iterable[str]) -> None:
        self.report = report
        self.file = Names(defined=dict.fromkeys(file_names))  # type: ignore[arg-type]  # their places are not needed
        self.layers = vocabulary.layers
        self.known = {*vocabulary.layers, *BUILTINS, "identity", "none"}
        self.accepted = self.known | vocabulary.words | set(vocabulary.initializers)

    def check(self, file: ast.File) -> None:
        """Reports what is wrong with the names of all blocks and models."""
        for item in file.items:
            if isinstance(item, ast.Block):
                self._block(item)
            elif isinstance(item, ast.Model):
                self._model(item)

    # Definitions

    def _block(self, block: ast.Block) -> None:
        names = self._parameters(block.parameters, f"block `{block.name.name}`")
        names.defined["in"] = block.name.span
        if not isinstance(block.body, ast.Body):
            self._expression(block.body, names)
            return
        self._body(block.body, names)
        statements = block.body.statements
        for statement in statements:
            if isinstance(statement, ast.Input):
                self.report.error("E0606", "a block has no inputs of its own", statement.span, help="its input is `in`")
            elif isinstance(statement, ast.Expect):
                self.report.error("E0606", "a block has no expectations; a model has", statement.span)
            elif isinstance(statement, (ast.Evaluate, ast.Assign)) and _output(statement.value) is not None:
                self.report.error(
                    "E0606", "a block has no outputs", _place(statement.value), help="its last expression is its value"
                )  # fmt: skip
            elif isinstance(statement, ast.Evaluate) and statement is not statements[-1]:
                self.report.error(
                    "E0607", "this value is used by nothing", statement.span,
                    help="a block's last expression is its value; give this one a name, or join the two with `->`",
                )  # fmt: skip
        if not statements or not isinstance(statements[-1], ast.Evaluate):
            span = statements[-1].span if statements else block.name.span
            help = "end it with an expression: `in -> …`"
            self.report.error("E0608", f"block `{block.name.name}` has no value", span, help=help)

    def _model(self, model: ast.Model) -> None:
        names = self._parameters(model.parameters, f"model `{model.name.name}`")
        if model.definition is not None:
            self._expression(model.definition, names)
            for statement in model.body.statements if model.body is not None else ():
                if isinstance(statement, ast.Expect):
                    self._expression(statement.value, names)
                else:
                    message = "only `expect` can stand behind a model that is made from another"
                    self.report.error("E0606", message, statement.span)
            return
        if model.body is None:
            return
        self._body(model.body, names)
        for statement in model.body.statements:
            if isinstance(statement, ast.Evaluate) and _output(statement.value) is None:
                self.report.error(
                    "E0607", "this value is used by nothing", statement.span,
                    help="end it with `-> output NAME`, or give it a name: `mid = …`",
                )  # fmt: skip

    def _parameters(self, parameters: Iterable[ast.Parameter], what: str) -> Names:
        names = Names(self.file)
        for parameter in parameters:
            if parameter.default is not None:
                self._expression(parameter.default, names)
            if parameter.name.name in names.defined:
                self.report.error("E0403", f"{what} has two parameters `{parameter.name.name}`", parameter.name.span)
            names.defined[parameter.name.name] = parameter.name.span
            names.used.add(parameter.name.name)
        return names

    # Statements

    def _body(self, body: ast.Body, outer: Names) -> None:
        assigned = [t.name for s in body.statements if isinstance(s, ast.Assign) for t in s.targets]
        inputs = [s.name.name for s in body.statements if isinstance(s, ast.Input)]
        names = Names(outer, later=frozenset([*assigned, *inputs]))
        for statement in body.statements:
            if isinstance(statement, ast.Input):
                self._expression(statement.shape, names)
                self._define(statement.name, names, outer)
                names.used.add(statement.name.name)  # the check of dead layers knows more about inputs
            elif isinstance(statement, ast.Assign):
                self._expression(statement.value, names)
                for target in statement.targets:
                    self._define(target, names, outer)
            elif isinstance(statement, ast.Evaluate) and isinstance(statement.value, ast.Output):
                self._name(statement.value.name, names)
            elif isinstance(statement, (ast.Evaluate, ast.Expect)):
                self._expression(statement.value, names)
        for name, span in names.defined.items():
            if name not in names.used and not name.startswith("_"):
                help = "use it, leave it out, or start its name with `_`"
                self.report.error("E0408", f"`{name}` is used by nothing", span, help=help)

    def _define(self, name: ast.Name, names: Names, outer: Names) -> None:
        first = names.defined.get(name.name) or outer.defined.get(name.name)
        if name.name == "_":
            return
        if first is not None and name.name != "in":
            self.report.error(
                "E0403", f"`{name.name}` is defined twice", name.span, f"the first is at line {first.line}",
                help="give this one a name of its own",
            )  # fmt: skip
        names.defined[name.name] = name.span

    # Expressions

    def _expression(self, node: ast.Node, names: Names) -> None:
        match node:
            case ast.Name():
                self._name(node, names)
            case ast.Output():
                pass
            case ast.Attribute():
                self._expression(node.value, names)
            case ast.Labelled():
                self._expression(node.stage, names)
            case ast.Lambda():
                inner = Names(names, {p.name: p.span for p in node.parameters})
                self._expression(node.body, inner)
            case ast.Comprehension():
                inner = names
                for clause in node.clauses:
                    self._expression(clause.iterable, inner)
                    inner = Names(inner, {n.name: n.span for n in clause.names})
                    for condition in clause.conditions:
                        self._expression(condition, inner)
                self._expression(node.element, inner)
            case ast.Call(function=ast.Name()):
                self._expression(node.function, names)
                self._arguments(node, names)
            case ast.Argument():
                self._expression(node.value, names)
            case _:
                for child in ast.children(node):
                    self._expression(child, names)

    def _arguments(self, node: ast.Call, names: Names) -> None:
        """The arguments of a call by name; where a layer's argument takes words, those are what an unknown name may mean."""
        layer = self.layers.get(node.function.name) if isinstance(node.function, ast.Name) else None
        for argument in node.arguments:
            parameter = None
            if layer is not None and argument.name is not None:
                parameter = signature_of(layer).find(argument.name.name)
            words = words_of(parameter.annotation) if parameter is not None else frozenset()
            if isinstance(argument.value, ast.Name):
                self._name(argument.value, names, words)
            else:
                self._expression(argument.value, names)

    def _name(self, node: ast.Name, names: Names, words: frozenset[str] = frozenset()) -> None:
        if names.use(node.name) or node.name in self.accepted:
            return
        if node.name == "in":
            self.report.error("E0406", "`in` is a block's input; there is none here", node.span)
        elif names.comes_later(node.name):
            help = "statements run from top to bottom: move the definition up"
            self.report.error("E0407", f"`{node.name}` is used before it is defined", node.span, help=help)
        else:
            meant = closest(node.name, words) or closest(node.name, {*names.visible(), *self.known})
            if meant is not None:
                names.use(meant)  # a name that is misspelt where it is used is not unused
            choices = f"the words here are {listing(sorted(words))}" if words else ""
            help = f"did you mean `{meant}`?" if meant else choices
            self.report.error("E0401", f"unknown name `{node.name}`", node.span, help=help)


def _output(node: ast.Expression) -> ast.Output | None:
    """The output that a statement's expression ends in."""
    if isinstance(node, ast.Chain) and isinstance(node.stages[-1], ast.Output):
        return node.stages[-1]
    return node if isinstance(node, ast.Output) else None


def _place(node: ast.Expression) -> Span:
    output = _output(node)
    return output.span if output is not None else node.span
