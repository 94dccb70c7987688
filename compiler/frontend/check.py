"""Checks a spec whole: reads it and its imports, looks all names up, elaborates every model and every recipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.definitions import Definitions, define
from dlc.compiler.frontend.evaluator import Evaluator
from dlc.compiler.frontend.limits import DEFAULT, Limits
from dlc.compiler.frontend.models import ModelDefinition, elaborate, probe
from dlc.compiler.frontend.names import NameChecker
from dlc.compiler.frontend.parser import parse
from dlc.compiler.frontend.report import Report
from dlc.compiler.frontend.values import BlockFunction, ModelFunction
from dlc.compiler.frontend.vocabulary import Vocabulary
from dlc.compiler.recipe import Recipe
from dlc.compiler.source import SourceFile

STACK = 20_000  # Python frames that evaluation may use; limits.expression_depth keeps it far below


@dataclass(frozen=True)
class Checked:
    """A spec without mistakes: its models (those that can be built without arguments) and recipes, in the file's order."""

    source: SourceFile
    models: Mapping[str, ModelDefinition]
    recipes: Mapping[str, Recipe]


def check(
    spec: Path | str | SourceFile, vocabulary: Vocabulary, settings: Sequence[str] = (), limits: Limits = DEFAULT
) -> Checked:
    """Checks a spec, given as a file or as its text. `settings` are overrides, "train.batch=64".

    Raises DlcError with every mistake of the file.
    """
    source = spec if isinstance(spec, SourceFile) else SourceFile(str(spec), Path(spec).read_text(encoding="utf-8"))
    file = parse(source)
    report = Report(limits, origin=(source.name,))
    with deep_stack():
        definitions = Definitions(file)
        define(report, vocabulary, file, definitions)
        NameChecker(report, vocabulary, definitions.names).check(file)
        evaluator = Evaluator(report, vocabulary, limits)
        models = _models(evaluator, file, definitions)
        recipes: dict[str, Recipe] = {}
        _probe_rest(evaluator, file, definitions)
    report.raise_errors()
    return Checked(source, models, recipes)


def _models(evaluator: Evaluator, file: ast.File, definitions: Definitions) -> dict[str, ModelDefinition]:
    models = {}
    for item in file.items:
        if not isinstance(item, ast.Model):
            continue
        function = definitions.names.get(item.name.name)
        if not isinstance(function, ModelFunction) or function.declaration is not item:
            continue
        if any(p.default is None for p in function.parameters):
            continue
        network = elaborate(evaluator, function, {}, None)
        if network is not None:
            models[function.name] = ModelDefinition(function.name, network, item.span)
    return models


def _probe_rest(evaluator: Evaluator, file: ast.File, definitions: Definitions) -> None:
    """Evaluates what nothing has called yet, with unknown arguments."""
    for item in file.items:
        if isinstance(item, (ast.Block, ast.Model)):
            function = definitions.names.get(item.name.name)
            if isinstance(function, (BlockFunction, ModelFunction)) and function not in evaluator.entered:
                probe(evaluator, function)


@contextmanager
def deep_stack() -> Iterator[None]:
    """Room for evaluation as deep as the limits allow; they, not Python's recursion limit, end what is too deep."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, STACK))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
