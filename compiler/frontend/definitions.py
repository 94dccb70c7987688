"""The definitions of a file as values: blocks and models by name, sections by kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.convert import AnyBlock, AnyStage
from dlc.compiler.frontend.environment import Environment
from dlc.compiler.frontend.functions import BUILTINS
from dlc.compiler.frontend.imports import SpecFile
from dlc.compiler.frontend.inheritance import inherit
from dlc.compiler.frontend.report import Report
from dlc.compiler.frontend.suggestions import did_you_mean
from dlc.compiler.frontend.values import BlockFunction, Measure, ModelFunction, Module, Parameter
from dlc.compiler.frontend.vocabulary import Vocabulary

TYPES: dict[str, Any] = {
    "int": int, "float": float, "bool": bool, "str": str, "list": list, "tuple": tuple, "stage": AnyStage, "block": AnyBlock,
    "measure": Measure,
}  # fmt: skip
"""The types that a parameter may be declared with."""


@dataclass
class Definitions:
    """What one file can use: `names` holds blocks, models and imported files; `own` those that it defines itself.

    `recipes` are the train sections that may be extended. Sections are whole: what they inherit is in them, and `homes`
    says for a setting (by its identity) in which file the names in it are to be looked up.
    """

    names: dict[str, Any] = field(default_factory=dict)
    data: dict[str, ast.Section] = field(default_factory=dict)
    train: dict[str, ast.Section] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)
    own_data: dict[str, ast.Section] = field(default_factory=dict)
    recipes: dict[str, ast.Section] = field(default_factory=dict)
    homes: dict[int, Definitions] = field(default_factory=dict)

    @property
    def environment(self) -> Environment:
        """The names as the outermost scope of an evaluation."""
        return Environment(None, self.names)


def define_all(report: Report, vocabulary: Vocabulary, files: Sequence[SpecFile]) -> dict[SpecFile, Definitions]:
    """The definitions of every file, imported files first. Reports clashes, and names that the language has already.

    `import "x"` brings what the file itself defines, not what it imports; `import "x" as r` brings it behind `r.`.
    """
    made: dict[SpecFile, Definitions] = {}
    for file in files:
        definitions = Definitions()
        for statement, imported in file.imports:
            _import(report, definitions, statement, made[imported])
        _define(report, vocabulary, file.tree, definitions)
        _inherit(report, definitions)
        made[file] = definitions
    return made


def _inherit(report: Report, definitions: Definitions) -> None:
    for section in definitions.train.values():
        definitions.homes.update({id(setting): definitions for setting in section.settings})
    definitions.train = inherit(report, definitions.train, definitions.recipes)
    definitions.own_data = inherit(report, definitions.own_data, definitions.data)
    definitions.data.update(definitions.own_data)


def _import(report: Report, definitions: Definitions, statement: ast.Import, other: Definitions) -> None:
    if statement.alias is not None:
        alias = statement.alias.name
        if alias in definitions.names:
            report.error("E0403", f"two files are imported as `{alias}`", statement.alias.span)
            return
        definitions.names[alias] = Module(alias, other.own)
        definitions.data.update({f"{alias}.{name}": section for name, section in other.own_data.items()})
        definitions.recipes.update({f"{alias}.{name}": section for name, section in other.train.items()})
        definitions.homes.update(other.homes)
        return
    for name, value in other.own.items():
        if definitions.names.get(name, value) is not value:
            help = 'import one of them under a name: `import "…" as r`, then `r.' + name + "`"
            report.error("E0403", f"two imported files define `{name}`", statement.path.span, help=help)
        definitions.names.setdefault(name, value)
    for name, section in other.own_data.items():
        if definitions.data.get(name, section) is not section:
            report.error("E0403", f"two imported files define data `{name}`", statement.path.span)
        definitions.data.setdefault(name, section)
    definitions.recipes.update(other.train)
    definitions.homes.update(other.homes)


def _define(report: Report, vocabulary: Vocabulary, file: ast.File, definitions: Definitions) -> None:
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
            if item.kind == "train":
                definitions.train[name] = item
                continue
            if name in definitions.data:
                report.error("E0403", f"data `{name}` is defined here and in an imported file", item.name.span)
            definitions.data[name] = definitions.own_data[name] = item
            continue
        if name in vocabulary.layers or name in BUILTINS or name in ("identity", "none"):
            message = f"`{name}` is a name of the language: a {'layer' if name in vocabulary.layers else 'function'}"
            report.error("E0405", message, item.name.span, help="give the definition a name of its own")
            continue
        if name in definitions.names:
            report.error(
                "E0403",
                f"`{name}` is defined here and in an imported file",
                item.name.span,
                help="import the file `as` a name",
            )
            continue
        parameters = tuple(
            Parameter(p.name.name, declared_type(report, p.type), p.default, p.name.span) for p in item.parameters
        )
        kind = BlockFunction if isinstance(item, ast.Block) else ModelFunction
        definitions.names[name] = definitions.own[name] = kind(name, parameters, item, env)


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
