"""Checks a spec whole: reads it and its imports, looks all names up, elaborates every model and every recipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dlc.compiler.errors import Diagnostic, DlcError
from dlc.compiler.frontend import ast
from dlc.compiler.frontend.cautions import cautions
from dlc.compiler.frontend.data import SETTINGS as DATA_SETTINGS
from dlc.compiler.frontend.definitions import Definitions, define_all
from dlc.compiler.frontend.evaluator import Evaluator
from dlc.compiler.frontend.imports import SpecFile, load
from dlc.compiler.frontend.limits import DEFAULT, Limits
from dlc.compiler.frontend.models import ModelDefinition, elaborate, probe
from dlc.compiler.frontend.names import NameChecker
from dlc.compiler.frontend.overrides import override
from dlc.compiler.frontend.parser import parse
from dlc.compiler.frontend.report import Report
from dlc.compiler.frontend.train import SETTINGS as TRAIN_SETTINGS
from dlc.compiler.frontend.train import Recipes
from dlc.compiler.frontend.values import BlockFunction, ModelFunction
from dlc.compiler.frontend.vocabulary import Vocabulary
from dlc.compiler.recipe import Recipe
from dlc.compiler.source import SourceFile

STACK = 20_000  # Python frames that evaluation may use; limits.expression_depth keeps it far below


@dataclass(frozen=True)
class Checked:
    """A spec without mistakes: its models (those that can be built without arguments) and recipes, in the file's order.

    `warnings` are about what is legal, but hardly meant.
    """

    source: SourceFile
    models: Mapping[str, ModelDefinition]
    recipes: Mapping[str, Recipe]
    warnings: tuple[Diagnostic, ...] = ()


def check(
    spec: Path | str | SourceFile, vocabulary: Vocabulary, settings: Sequence[str] = (), limits: Limits = DEFAULT
) -> Checked:
    """Checks a spec, a file or a text that imports nothing. `settings` are overrides, "train.batch=64".

    Raises DlcError with every mistake of the file and of those it imports.
    """
    files = (_alone(spec),) if isinstance(spec, SourceFile) else load(spec).files
    main = files[-1]
    report = Report(limits, origin=(main.source.name, *(f.source.name for f in files[:-1])))
    with deep_stack():
        defined_in = define_all(report, vocabulary, files)
        definitions = defined_in[main]
        for file, defined in defined_in.items():
            NameChecker(report, vocabulary, defined.names).check(file.tree)
        evaluator = Evaluator(report, vocabulary, limits)
        models = _models(evaluator, main.tree, definitions)
        recipes = _recipes(evaluator, definitions, models, settings)
        _probe_rest(evaluator, main.tree, definitions)
    report.raise_errors()
    found = dict.fromkeys(warning for recipe in recipes.values() for warning in cautions(recipe))
    return Checked(main.source, models, recipes, tuple(found))


def _alone(source: SourceFile) -> SpecFile:
    """A text as a file that imports nothing. Raises DlcError where it does."""
    tree = parse(source)
    for item in tree.items:
        if isinstance(item, ast.Import):
            raise DlcError.of("E0208", "a text that is not a file cannot import", span=item.span)
    return SpecFile(Path(source.name), source, tree)


def _recipes(
    evaluator: Evaluator,
    definitions: Definitions,
    models: Mapping[str, ModelDefinition],
    settings: Sequence[str],
) -> dict[str, Recipe]:
    known = {"train": TRAIN_SETTINGS, "data": DATA_SETTINGS}
    used = (definitions, *definitions.homes.values())
    data = list({id(section): section for home in used for section in home.data.values()}.values())
    changed = override(evaluator.report, [*data, *definitions.train.values()], settings, known)
    overridden = {id(section): now for section, now in zip(data, changed, strict=False)}
    made = Recipes(evaluator, definitions, {n: m.network for n, m in models.items()}, overridden)
    for section in definitions.own_data.values():
        made.data_section(section)
    recipes = {}
    for section in changed[len(data) :]:
        recipe = made.recipe(section)
        if recipe is not None:
            recipes[recipe.name] = recipe
    return recipes


def _models(evaluator: Evaluator, file: ast.File, definitions: Definitions) -> dict[str, ModelDefinition]:
    models = {}
    for item in file.items:
        if not isinstance(item, ast.Model):
            continue
        function = definitions.names.get(item.name.name)
        if not isinstance(function, ModelFunction) or function.declaration is not item:
            continue
        if any(p.default is None for p in function.parameters) or function.name in evaluator.endless:
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
