"""The syntax tree of a spec: what was written, before any name is looked up or any number computed.

Every node knows its `span`, which takes no part in comparison: two trees are equal when they say the same. Children are
nodes or tuples of nodes; all other fields are plain strings, numbers and booleans.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TypeAlias

from dlc.compiler.source import Span


@dataclass(frozen=True)
class Node:
    """The base of all nodes. `span` covers the node from its first to its last character, without outer parentheses."""

    span: Span = field(kw_only=True, compare=False, repr=False)


# Expressions


@dataclass(frozen=True)
class Name(Node):
    """A word: a use (`channels`, and `in` for a block's input) or, in definitions and labels, the word defined."""

    name: str


@dataclass(frozen=True)
class Number(Node):
    """`3`, `5e-4`, `61_706`; with a unit `10%`, `10deg`, `1 epoch`, `2GB`.

    `value` is the number as written (10 for `10%`); `unit` is one of `UNITS`, "" without one.
    """

    value: int | float
    unit: str = ""


UNITS = {
    "%": "%",
    "deg": "deg",
    "epoch": "epoch",
    "epochs": "epoch",
    "step": "step",
    "steps": "step",
    "KB": "KB",
    "MB": "MB",
    "GB": "GB",
    "TB": "TB",
}
"""The units that a number may carry, each with the one that `Number.unit` holds for it."""


@dataclass(frozen=True)
class String(Node):
    """`"a text"`; `value` is the text with its escapes resolved."""

    value: str


@dataclass(frozen=True)
class Boolean(Node):
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True)
class List(Node):
    """`[a, b]`."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Tuple(Node):
    """`(a, b)`, `(a,)` or `()`."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Clause(Node):
    """`for a, b in pairs if a > 1`: one loop of a comprehension; all `conditions` must hold."""

    names: tuple[Name, ...]
    iterable: Expression
    conditions: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class Comprehension(Node):
    """`[element for … in …]`; the first clause is the outermost loop."""

    element: Expression
    clauses: tuple[Clause, ...]


@dataclass(frozen=True)
class Range(Node):
    """`start..stop`, stop excluded."""

    start: Expression
    stop: Expression


@dataclass(frozen=True)
class Unary(Node):
    """`operator` is "-", "+" or "not"."""

    operator: str
    operand: Expression


@dataclass(frozen=True)
class Binary(Node):
    """`operator` is one of + - * / // % ** == != < <= > >= and or."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Conditional(Node):
    """`value if condition else otherwise`."""

    value: Expression
    condition: Expression
    otherwise: Expression


@dataclass(frozen=True)
class Lambda(Node):
    """`i => body` or `(a, b) => body`."""

    parameters: tuple[Name, ...]
    body: Expression


@dataclass(frozen=True)
class Argument(Node):
    """One argument of a call, `value` or `name=value`."""

    name: Name | None
    value: Expression


@dataclass(frozen=True)
class Call(Node):
    """`function(arguments)`."""

    function: Expression
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Index(Node):
    """`value[index]`; the index may be a `Range`."""

    value: Expression
    index: Expression


@dataclass(frozen=True)
class Attribute(Node):
    """`value.name`."""

    value: Expression
    name: Name


@dataclass(frozen=True)
class Labelled(Node):
    """`label: stage`."""

    label: Name
    stage: Expression


@dataclass(frozen=True)
class Chain(Node):
    """`a -> b -> c`: two or more stages (the first may be a tensor). Only at the end of a statement's chain may stand an
    `Output`."""

    stages: tuple[Expression, ...]


@dataclass(frozen=True)
class Output(Node):
    """`output name` or `output name when training`: at the end of a chain what flows there; alone, the tensor `name`."""

    name: Name
    training_only: bool = False


@dataclass(frozen=True)
class Then(Node):
    """`a then b`: schedules one after the other, two or more. Only in settings."""

    steps: tuple[Expression, ...]


@dataclass(frozen=True)
class FromFile(Node):
    """`from "file"` or `from "file" else otherwise`. Only in settings."""

    path: String
    otherwise: Expression | None = None


Expression: TypeAlias = (
    Name
    | Number
    | String
    | Boolean
    | List
    | Tuple
    | Comprehension
    | Range
    | Unary
    | Binary
    | Conditional
    | Lambda
    | Call
    | Index
    | Attribute
    | Labelled
    | Chain
    | Output
    | Then
    | FromFile
)


# Statements of models and blocks


@dataclass(frozen=True)
class Input(Node):
    """`input name: shape`."""

    name: Name
    shape: Expression


@dataclass(frozen=True)
class Expect(Node):
    """`expect subject = value` (relation "=") or `expect subject: shape` (relation ":").

    `subject` is a word ("params", an output's name) or a dotted name ("layer1.0.conv1").
    """

    subject: Name
    relation: str
    value: Expression


@dataclass(frozen=True)
class Assign(Node):
    """`name = value` or `a, b = value`."""

    targets: tuple[Name, ...]
    value: Expression


@dataclass(frozen=True)
class Evaluate(Node):
    """An expression as a statement: a chain that ends in an output, or the value of a block (its last statement)."""

    value: Expression


Statement: TypeAlias = Input | Expect | Assign | Evaluate


@dataclass(frozen=True)
class Body(Node):
    """`{ statements }`."""

    statements: tuple[Statement, ...]


# The items of a file


@dataclass(frozen=True)
class Type(Node):
    """`int`, `list[int]`."""

    name: str
    arguments: tuple[Type, ...] = ()


@dataclass(frozen=True)
class Parameter(Node):
    """`name`, `name: type`, `name = default` or `name: type = default`."""

    name: Name
    type: Type | None = None
    default: Expression | None = None


@dataclass(frozen=True)
class Import(Node):
    """`import "path"` or `import "path" as alias`."""

    path: String
    alias: Name | None = None


@dataclass(frozen=True)
class Block(Node):
    """`block name(parameters) = expression` or `block name(parameters) { statements }`."""

    name: Name
    parameters: tuple[Parameter, ...]
    body: Body | Expression


@dataclass(frozen=True)
class Model(Node):
    """`model name(parameters) { … }`, or `model name = definition` with an optional `{ expect … }` behind it."""

    name: Name
    parameters: tuple[Parameter, ...]
    definition: Expression | None
    body: Body | None


@dataclass(frozen=True)
class Item(Node):
    """One value of a setting: `value`, `name=value`, either with `for pattern` ("features.*") behind it."""

    name: Name | None
    value: Expression
    pattern: Name | None = None


@dataclass(frozen=True)
class Setting(Node):
    """`name item, item`: one line of a `data` or `train` section."""

    name: Name
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Section(Node):
    """`data name { settings }`, `train name extends base { settings }`; `kind` is "data" or "train"."""

    kind: str
    name: Name
    settings: tuple[Setting, ...]
    base: Name | None = None


Definition: TypeAlias = Import | Block | Model | Section


@dataclass(frozen=True)
class File(Node):
    """A whole spec, in the order it was written."""

    items: tuple[Definition, ...]


def children(node: Node) -> Iterator[Node]:
    """The nodes right below `node`, in the order of its fields."""
    for item in fields(node):
        value = getattr(node, item.name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from value
