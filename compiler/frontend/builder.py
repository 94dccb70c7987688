"""From the grammar's rules to nodes: one method per rule, called while the file is parsed.

A method makes the node of the rule of its name, which the grammar documents. It gets the rule's children in order: nodes
that other methods made, and all tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from dlc.compiler.errors import DlcError
from dlc.compiler.frontend import ast
from dlc.compiler.frontend.lexer import MAX_DIGITS, string_value
from dlc.compiler.frontend.word import Word
from dlc.compiler.source import Span

Child = Any  # a node, a token, or a list that another method made: the grammar says which, beyond what types can


class Builder:
    """Makes nodes. Methods raise DlcError (E0108) for mistakes that the grammar cannot see."""

    def start(self, children: Sequence[Child]) -> tuple[ast.Definition, ...]:
        return _nodes(children)

    # Items

    def import_file(self, children: Sequence[Child]) -> ast.Import:
        alias = _name(children[3]) if len(children) > 2 else None
        return ast.Import(self.string(children[1:2]), alias, span=_span(children))

    def model(self, children: Sequence[Child]) -> ast.Model:
        name, nodes = _name(children[1]), _nodes(children)
        body = nodes[-1] if isinstance(nodes[-1], ast.Body) else None
        definition = None if isinstance(nodes[0], ast.Body) else nodes[0]
        return ast.Model(name, _parameters(children), definition, body, span=_span(children))

    def block(self, children: Sequence[Child]) -> ast.Block:
        return ast.Block(_name(children[1]), _parameters(children), children[-1], span=_span(children))

    def section(self, children: Sequence[Child]) -> ast.Section:
        settings = tuple(c for c in children if isinstance(c, ast.Setting))
        base = next((c for c in children if isinstance(c, ast.Name)), None)
        return ast.Section(str(children[0]), _name(children[1]), settings, base, span=_span(children))

    def parameters(self, children: Sequence[Child]) -> list[ast.Parameter]:
        return list(_nodes(children))

    def parameter(self, children: Sequence[Child]) -> ast.Parameter:
        kind = next((c for c in children if isinstance(c, ast.Type)), None)
        default = children[-1] if any(c == "=" for c in children) else None
        return ast.Parameter(_name(children[0]), kind, default, span=_span(children))

    def type_name(self, children: Sequence[Child]) -> ast.Type:
        return ast.Type(str(children[0]), _nodes(children), span=_span(children))

    # Statements

    def body(self, children: Sequence[Child]) -> ast.Body:
        return ast.Body(_nodes(children), span=_span(children))

    def input(self, children: Sequence[Child]) -> ast.Input:
        return ast.Input(_name(children[1]), children[3], span=_span(children))

    def expect(self, children: Sequence[Child]) -> ast.Expect:
        return ast.Expect(children[1], str(children[2]), children[3], span=_span(children))

    def assign(self, children: Sequence[Child]) -> ast.Assign:
        targets = tuple(_name(c) for c in children if isinstance(c, Word) and c.type == "NAME")
        return ast.Assign(targets, children[-1], span=_span(children))

    def evaluate(self, children: Sequence[Child]) -> ast.Evaluate:
        return ast.Evaluate(children[0], span=_span(children))

    def finish(self, children: Sequence[Child]) -> ast.Chain:
        stages, _, output = children
        return ast.Chain((*stages, output), span=stages[0].span.to(output.span))

    def output(self, children: Sequence[Child]) -> ast.Output:
        if len(children) > 2 and children[3] != "training":
            message = f"an output is there always or `when training`, not `when {children[3]}`"
            raise DlcError.of("E0108", message, span=children[3].span)
        return ast.Output(_name(children[1]), len(children) > 2, span=_span(children))

    def path(self, children: Sequence[Child]) -> ast.Name:
        return _joined(children, "a dotted name")

    # Settings

    def setting(self, children: Sequence[Child]) -> ast.Setting:
        return ast.Setting(_name(children[0]), _nodes(children), span=_span(children))

    def item(self, children: Sequence[Child]) -> ast.Item:
        name = pattern = None
        if isinstance(children[0], Word):
            name = _name(children[0])
        if len(children) > 2 and isinstance(children[-2], Word) and children[-2].type == "FOR":
            pattern = children[-1]
        return ast.Item(name, children[2 if name else 0], pattern, span=_span(children))

    def then(self, children: Sequence[Child]) -> ast.Then:
        return ast.Then(_nodes(children), span=_span(children))

    def from_file(self, children: Sequence[Child]) -> ast.FromFile:
        otherwise = children[3] if len(children) > 2 else None
        return ast.FromFile(self.string(children[1:2]), otherwise, span=_span(children))

    def pattern(self, children: Sequence[Child]) -> ast.Name:
        if len(children) == 1 and children[0].type == "STRING":
            return ast.Name(string_value(children[0]), span=_span(children))
        return _joined(children, "a pattern of names")

    # Expressions

    def function(self, children: Sequence[Child]) -> ast.Lambda:
        head, _, body = children
        if isinstance(head, Word):
            head = _name(head)
        names: tuple[Child, ...] = head.items if isinstance(head, ast.Tuple) else (head,)
        if not names or not all(isinstance(n, ast.Name) and n.name != "in" for n in names):
            raise DlcError.of(
                "E0108", "a lambda's parameters are names", span=head.span, help="write `i => …` or `(a, b) => …`"
            )
        return ast.Lambda(names, body, span=_span(children))

    def conditional(self, children: Sequence[Child]) -> ast.Conditional:
        value, _, condition, _, otherwise = children
        return ast.Conditional(value, condition, otherwise, span=_span(children))

    def stages(self, children: Sequence[Child]) -> list[ast.Expression]:
        if len(children) == 1:
            return [children[0]]
        children[0].append(children[2])
        stages: list[ast.Expression] = children[0]
        return stages

    def chain(self, children: Sequence[Child]) -> ast.Expression:
        stages: list[ast.Expression] = children[0]
        if len(stages) == 1:
            return stages[0]
        return ast.Chain(tuple(stages), span=stages[0].span.to(stages[-1].span))

    def labelled(self, children: Sequence[Child]) -> ast.Labelled:
        return ast.Labelled(_name(children[0]), children[2], span=_span(children))

    def binary(self, children: Sequence[Child]) -> ast.Binary:
        left, operator, right = children
        return ast.Binary(str(operator), left, right, span=left.span.to(right.span))

    def between(self, children: Sequence[Child]) -> ast.Range:
        return ast.Range(children[0], children[2], span=_span(children))

    def unary(self, children: Sequence[Child]) -> ast.Unary:
        return ast.Unary(str(children[0]), children[1], span=_span(children))

    def call(self, children: Sequence[Child]) -> ast.Call:
        return ast.Call(children[0], _nodes(children[1:]), span=_span(children))

    def argument(self, children: Sequence[Child]) -> ast.Argument:
        name = _name(children[0]) if len(children) > 1 else None
        return ast.Argument(name, children[-1], span=_span(children))

    def index(self, children: Sequence[Child]) -> ast.Index:
        return ast.Index(children[0], children[2], span=_span(children))

    def attribute(self, children: Sequence[Child]) -> ast.Attribute:
        return ast.Attribute(children[0], _name(children[2]), span=_span(children))

    def name(self, children: Sequence[Child]) -> ast.Name:
        return _name(children[0])

    def number(self, children: Sequence[Child]) -> ast.Number:
        text = children[0].replace("_", "")
        value: int | float = 0
        if len(text) <= MAX_DIGITS:
            value = int(text) if text.isdigit() else float(text)
        unit = ast.UNITS[children[1]] if len(children) > 1 else ""
        return ast.Number(value, unit, span=_span(children))

    def string(self, children: Sequence[Child]) -> ast.String:
        return ast.String(string_value(children[0]), span=_span(children))

    def boolean(self, children: Sequence[Child]) -> ast.Boolean:
        return ast.Boolean(children[0] == "true", span=_span(children))

    def group(self, children: Sequence[Child]) -> ast.Expression:
        inner: ast.Expression = children[1]
        return replace(inner, span=_span(children))

    def tuple_literal(self, children: Sequence[Child]) -> ast.Tuple:
        return ast.Tuple(_nodes(children), span=_span(children))

    def list_literal(self, children: Sequence[Child]) -> ast.List:
        return ast.List(_nodes(children), span=_span(children))

    def comprehension(self, children: Sequence[Child]) -> ast.Comprehension:
        return ast.Comprehension(children[1], tuple(children[2:-1]), span=_span(children))

    def clause(self, children: Sequence[Child]) -> ast.Clause:
        names = tuple(_name(c) for c in children if isinstance(c, Word) and c.type == "NAME")
        iterable, *conditions = _nodes(children)
        return ast.Clause(names, iterable, tuple(conditions), span=_span(children))


def _nodes(children: Sequence[Child]) -> tuple[Any, ...]:
    return tuple(c for c in children if isinstance(c, ast.Node))


def _parameters(children: Sequence[Child]) -> tuple[ast.Parameter, ...]:
    return tuple(next((c for c in children if isinstance(c, list)), ()))


def _span(children: Sequence[Child]) -> Span:
    span: Span = children[0].span.to(children[-1].span)
    return span


def _name(word: Word) -> ast.Name:
    return ast.Name(str(word), span=word.span)


def _joined(words: Sequence[Word], what: str) -> ast.Name:
    """The words as one name; they must stand without space between."""
    if any(a.end != b.start for a, b in pairwise(words)):
        raise DlcError.of("E0108", f"{what} is written without spaces", span=_span(words))
    return ast.Name("".join(words), span=_span(words))
