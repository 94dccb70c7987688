"""The definitions of a file as values: blocks and models by name, sections by kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.convert import AnyBlock, AnyStage
from dlc.compiler.frontend.environment import Environment
from dlc.compiler.frontend.functions import BUILTINS
from dlc.compiler.frontend.report import Report
from dlc.compiler.frontend.suggestions import did_you_mean
from dlc.compiler.frontend.values import BlockFunction, Measure, ModelFunction, Parameter
from dlc.compiler.frontend.vocabulary import Vocabulary

TYPES: dict[str, Any] = {
    "int": int, "float": float, "bool": bool, "str": str, "list": list, "tuple": tuple, "stage": AnyStage, "block": AnyBlock,
    "measure": Measure,
}  # fmt: skip
"""The types that a parameter may be declared with."""


@dataclass
class Definitions:
    """What one file defines, and what it can use: `names` holds blocks, models and imported files."""

    file: ast.File
    names: dict[str, Any] = field(default_factory=dict)
    data: dict[str, ast.Section] = field(default_factory=dict)
    train: dict[str, ast.Section] = field(default_factory=dict)

    @property
    def environment(self) -> Environment:
        return Environment(None, self.names)


def define(report: Report, vocabulary: Vocabulary, file: ast.File, definitions: Definitions) -> None:
    """Adds the definitions of a file to those it imports. Reports clashes, and names that the language has already."""
    env = definitions.environment
    first: dict[tuple[str, str], ast.Name] = {}
    for item in file.items:
        if isinstance(item, ast.Import):
            continue
        space = item.kind if isinstance(item, ast.Section) else "network"
        name = item.name.name
        before = first.setdefault((space, name), item.name)
        if before is not item.name:
            report.error(
                "E0403", f"`{name}` is defined twice", item.name.span, f"the first is at line {before.span.line}",
                help="give one of them another name",
            )  # fmt: skip
            continue
        if isinstance(item, ast.Section):
            (definitions.data if item.kind == "data" else definitions.train)[name] = item
            continue
        if name in vocabulary.layers or name in BUILTINS or name in ("identity", "none"):
            message = f"`{name}` is a name of the language: a {'layer' if name in vocabulary.layers else 'function'}"
            report.error("E0405", message, item.name.span, help="give the definition a name of its own")
            continue
        if name in definitions.names:
            report.error("E0403", f"`{name}` is defined here and in an imported file", item.name.span, help="import the file `as` a name")
            continue
        parameters = tuple(
            Parameter(p.name.name, declared_type(report, p.type), p.default, p.name.span) for p in item.parameters
        )
        kind = BlockFunction if isinstance(item, ast.Block) else ModelFunction
        definitions.names[name] = kind(name, parameters, item, env)


def declared_type(report: Report, node: ast.Type | None) -> Any:
    """The type of a declared parameter, None where any value will do."""
    if node is None:
        return None
    if node.name not in TYPES:
        help = did_you_mean(node.name, TYPES) or f"there are {', '.join(TYPES)}"
        report.error("E0409", f"unknown type `{node.name}`", node.span, help=help)
        return None
    if not node.arguments:
        return TYPES[node.name]
    inner = [declared_type(report, a) for a in node.arguments]
    if node.name == "list" and len(inner) == 1:
        return list[inner[0]] if inner[0] is not None else list  # type: ignore[valid-type]  # a type made at run time
    if node.name == "tuple":
        return tuple[tuple(inner)] if None not in inner else tuple  # type: ignore[misc]  # a type made at run time
    report.error("E0409", f"`{node.name}` takes no types in brackets", node.span, help="`list[int]`, `tuple[int, int]`")
    return None
