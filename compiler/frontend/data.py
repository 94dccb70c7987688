"""Elaborates `data` sections: source, validation split, size, normalisation, augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.environment import Environment
from dlc.compiler.frontend.evaluator import Evaluator
from dlc.compiler.frontend.operators import is_number
from dlc.compiler.frontend.sections import chosen, dotted, number, plain, read_settings, single, value_of, written
from dlc.compiler.frontend.suggestions import did_you_mean
from dlc.compiler.frontend.values import Poison, kind
from dlc.compiler.recipe import DataRecipe
from dlc.compiler.source import Span
from dlc.runtime.data.dense import Dense

SETTINGS = ("source", "validate", "resize", "normalize", "augment", "evaluate")
FITS: Mapping[str, Literal["stretch", "crop"]] = {"stretch": "stretch", "crop": "crop"}
VIEWS: Mapping[str, Literal["one", "ten"]] = {"center": "one", "ten_crop": "ten"}
NORMALIZATIONS = ("per_channel", "per_pixel")

T = TypeVar("T")


def elaborate_data(evaluator: Evaluator, section: ast.Section) -> DataRecipe | None:
    """A data section as a recipe; None where something is wrong with it, which is reported."""
    before = evaluator.report.count
    settings = read_settings(evaluator, section, SETTINGS, ("source",))
    source: Any = None
    validate: float = 0.0
    resize = normalize = None
    augment: tuple[Any, ...] = ()
    fit, views, dense = FITS["stretch"], VIEWS["center"], None
    if (line := settings.line("source")) is not None:
        source = _source(evaluator, line)
    if (line := settings.line("validate")) is not None:
        fraction = number(evaluator, line, unit="%", whole=False, most=0.95)
        validate = 0.0 if fraction is None else float(fraction)
    if (line := settings.line("resize")) is not None:
        resize = _resize(evaluator, line)
        fit = _fit(evaluator, line)
    if (line := settings.line("normalize")) is not None:
        normalize = _normalize(evaluator, line)
    if (line := settings.line("augment")) is not None:
        augment = _augment(evaluator, line)
    if (line := settings.line("evaluate")) is not None:
        node = single(evaluator, line, "`center`, `ten_crop` or `dense`")
        if node is not None and dotted(node.function if isinstance(node, ast.Call) else node) == Dense.keyword:
            dense = _dense(evaluator, node, normalize)
        else:
            views = _word(evaluator, node, "evaluate", VIEWS, views, more=(Dense.keyword,))
    if evaluator.report.count != before:
        return None
    return DataRecipe(
        section.name.name,
        source,
        validate,
        resize,
        normalize,
        augment,
        section.name.span,
        written(settings),
        fit,
        views,
        dense,
    )


def _source(evaluator: Evaluator, line: ast.Setting) -> Any:
    """`source mnist`, `source npz(path="x.npz")`, and `source npz, path="x.npz"`."""
    node = plain(evaluator, "source", line.items[0], "a data source")
    if node is None:
        return None
    extra = [ast.Argument(item.name, item.value, span=item.span) for item in line.items[1:] if item.name is not None]
    for item in line.items[1:]:
        if item.name is None:
            evaluator.error("E0805", "`source` takes one data source", item.span)
    if extra:
        function, arguments = (node.function, node.arguments) if isinstance(node, ast.Call) else (node, ())
        node = ast.Call(function, (*arguments, *extra), span=node.span.to(line.items[-1].span))
    return chosen(evaluator, evaluator.vocabulary.sources, "data source", node)


def _resize(evaluator: Evaluator, line: ast.Setting) -> tuple[int, int] | None:
    value = value_of(evaluator, replace(line, items=line.items[:1]), "a size")
    span = line.items[0].value.span
    if isinstance(value, Poison):
        return None
    sizes = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(sizes) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) for n in sizes):
        message = f"`resize` takes an integer or (height, width), not {kind(value)}"
        evaluator.error("E0806", message, span)
        return None
    if min(sizes) < 1 or max(sizes) > 65_536:
        evaluator.error("E0807", f"`resize` must be at least 1 and at most 65,536, not {span.text}", span)
        return None
    return sizes[0], sizes[1]


def _fit(evaluator: Evaluator, line: ast.Setting) -> Literal["stretch", "crop"]:
    """`resize 256, fit=crop`."""
    fit = FITS["stretch"]
    for item in line.items[1:]:
        if item.name is None or item.name.name != "fit":
            help = did_you_mean(item.name.name, ("fit",)) if item.name is not None else "two sizes stand in brackets"
            evaluator.error("E0805", "`resize` takes a size, and `fit=…`", item.span, help=help)
        else:
            fit = _word(evaluator, item.value, "fit", FITS, fit)
    return fit


def _dense(evaluator: Evaluator, node: ast.Expression, normalize: Any) -> Dense | None:
    """`dense`, `dense(256)`, `dense(size=(256, 320), flip=true)`."""
    if normalize == "per_pixel":
        message = "`dense` takes larger images than the network was trained on, which have no means pixel by pixel"
        evaluator.error("E0805", message, node.span, help="write `normalize per_channel`")
    made: Dense | None = chosen(evaluator, {Dense.keyword: Dense}, "evaluation", node)
    return made


def _word(
    evaluator: Evaluator,
    node: ast.Expression | None,
    what: str,
    words: Mapping[str, T],
    otherwise: T,
    more: Sequence[str] = (),
) -> T:
    """One of a few words; a mistake is reported. `more` could have stood there too."""
    if node is None:
        return otherwise
    word = dotted(node)
    if word is not None and word in words:
        return words[word]
    known = (*words, *more)
    message = f"`{what}` takes {' or '.join(f'`{w}`' for w in known)}"
    evaluator.error("E0806", message, node.span, help=did_you_mean(word or "", known))
    return otherwise


def _normalize(evaluator: Evaluator, line: ast.Setting) -> str | tuple[tuple[float, ...], tuple[float, ...]] | None:
    """`per_channel`, `per_pixel`, or `mean=…, std=…` with a number or one for each channel."""
    if line.items[0].name is None:
        node = single(evaluator, line, "`per_channel`, `per_pixel` or mean=…, std=…")
        if node is None:
            return None
        word = dotted(node)
        if word in NORMALIZATIONS:
            return word
        help = did_you_mean(word or "", NORMALIZATIONS)
        message = "`normalize` takes `per_channel`, `per_pixel`, or `mean=…, std=…`"
        evaluator.error("E0806", message, node.span, help=help)
        return None
    found: dict[str, tuple[float, ...]] = {}
    for item in line.items:
        if item.name is None or item.name.name not in ("mean", "std"):
            span = item.span if item.name is None else item.name.span
            help = did_you_mean(item.name.name, ("mean", "std")) if item.name is not None else ""
            evaluator.error("E0805", "`normalize` takes `mean=…` and `std=…`", span, help=help)
            return None
        if item.name.name in found:
            evaluator.error("E0805", f"`{item.name.name}` is given twice", item.name.span)
            return None
        numbers = _numbers(evaluator, item)
        if numbers is None:
            return None
        found[item.name.name] = numbers
    if len(found) < 2:
        missing = "std" if "mean" in found else "mean"
        evaluator.error(
            "E0805", f"`normalize` needs `{missing}` too", line.span, help="write `normalize mean=…, std=…`"
        )
        return None
    mean, std = found["mean"], found["std"]
    if len(mean) != len(std):
        evaluator.error("E0805", f"`mean` has {len(mean)} numbers, `std` has {len(std)}", line.items[-1].value.span)
        return None
    if min(std) <= 0:
        evaluator.error("E0807", "`std` must be above 0", line.items[-1].value.span)
        return None
    return mean, std


def _numbers(evaluator: Evaluator, item: ast.Item) -> tuple[float, ...] | None:
    value = evaluator.evaluate(item.value, Environment())
    if isinstance(value, Poison):
        return None
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if not values or not all(is_number(v) for v in values):
        name = item.name.name if item.name is not None else ""
        message = f"`{name}` takes a number, or a list with one for each channel, not {kind(value)}"
        evaluator.error("E0806", message, item.value.span)
        return None
    return tuple(float(v) for v in values)


def _augment(evaluator: Evaluator, line: ast.Setting) -> tuple[Any, ...]:
    """`shift(2) -> rotate(10deg)`, or the same with commas."""
    made: list[Any] = []
    spans: list[Span] = []
    for item in line.items:
        node = plain(evaluator, "augment", item, "transforms")
        if node is None:
            continue
        steps: Sequence[ast.Expression] = node.stages if isinstance(node, ast.Chain) else (node,)
        made += [chosen(evaluator, evaluator.vocabulary.transforms, "transform", step) for step in steps]
        spans += [step.span for step in steps]
    for transform, span in zip(made[:-1], spans, strict=False):
        if transform is not None and transform.mixes:
            message = f"`{transform.keyword}` mixes images, but another augmentation stands behind it"
            evaluator.error("E0805", message, span, help="write it at the end")
    return tuple(m for m in made if m is not None)
