"""Overrides from the command line: `train.batch=64`, `data.source=mnist`, `train.LeNet5OnMnist.optimizer.lr=0.05`.

`train.KEY` and `data.KEY` set a setting of every section of that kind, `train.NAME.KEY` of one. A further word names an
argument: `train.optimizer.lr=0.05`. Values are read as the language reads them, and checked with the rest of the section.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dlc.compiler.errors import DlcError
from dlc.compiler.frontend import ast
from dlc.compiler.frontend.inheritance import excludes
from dlc.compiler.frontend.parser import parse
from dlc.compiler.frontend.report import Report
from dlc.compiler.frontend.suggestions import did_you_mean, listing
from dlc.compiler.source import SourceFile, Span

FORM = "write train.KEY=VALUE or data.KEY=VALUE, for example train.batch=64"


@dataclass(frozen=True)
class Override:
    """One override: the section's kind, its name (None: every section of the kind), the setting, an argument of it."""

    kind: str
    section: str | None
    setting: ast.Setting
    argument: str | None


def override(
    report: Report, sections: Sequence[ast.Section], settings: Sequence[str], known: Mapping[str, Sequence[str]]
) -> list[ast.Section]:
    """The sections with the overrides in them. Reports what cannot be overridden, and why.

    `known` holds the settings of each kind of section. Later overrides of a setting win.
    """
    changed = list(sections)
    for text in settings:
        found = _read(report, text, sections, known)
        if found is None:
            continue
        targets = [s for s in changed if s.kind == found.kind and found.section in (None, s.name.name)]
        if not targets:
            report.error("E0817", f"--set {text}: this file has no {found.kind} section", None)
        changed = [_with(report, s, found, text) if s in targets else s for s in changed]
    return changed


def _read(
    report: Report, text: str, sections: Sequence[ast.Section], known: Mapping[str, Sequence[str]]
) -> Override | None:
    key, equals, value = text.partition("=")
    words = [w.strip() for w in key.split(".")]
    if not equals or not all(re.fullmatch(r"[A-Za-z_]\w*", w) for w in words):
        report.error("E0817", f"--set {text}: this is not KEY=VALUE", None, help=FORM)
        return None
    kind, *rest = words
    if kind not in known:
        help = did_you_mean(kind, known) or FORM
        report.error("E0817", f"--set {text}: there is no `{kind}` to set", None, help=help)
        return None
    names = [s.name.name for s in sections if s.kind == kind]
    section = rest.pop(0) if len(rest) > 1 and rest[0] in names else None
    if not rest:
        report.error("E0817", f"--set {text}: this names no setting", None, help=FORM)
        return None
    name, *more = rest
    if name not in known[kind] or len(more) > 1:
        candidates = {*known[kind], *(names if more else ())}
        help = did_you_mean(name, candidates) or f"there are {listing(known[kind], 20)}"
        what = f"no setting `{name}`" if name not in known[kind] else "no such setting"
        report.error("E0801", f"--set {text}: {what} in a {kind} section", None, help=help)
        return None
    setting = _parsed(report, kind, name, value.strip(), text)
    return None if setting is None else Override(kind, section, setting, more[0] if more else None)


def _parsed(report: Report, kind: str, name: str, value: str, text: str) -> ast.Setting | None:
    """The setting as the parser reads it, in a section made up for it."""
    if "\n" in value or not value:
        report.error(
            "E0817", f"--set {text}: the value is {'empty' if not value else 'more than one line'}", None, help=FORM
        )
        return None
    source = SourceFile(f"--set {kind}.{name}", f"{kind} override {{\n{name} {value}\n}}")
    try:
        items = parse(source).items
    except DlcError as error:
        report.add(error.diagnostics)
        return None
    only = items[0] if len(items) == 1 else None
    if not isinstance(only, ast.Section) or len(only.settings) != 1:
        report.error("E0817", f"--set {text}: this is more than a value", None, help=FORM)
        return None
    return only.settings[0]


def _with(report: Report, section: ast.Section, change: Override, text: str) -> ast.Section:
    """A section with one override in it."""
    name = change.setting.name.name
    before = [s for s in section.settings if s.name.name == name]
    if change.argument is None:
        without = [s for s in section.settings if not excludes(name, s.name.name)]
        return replace(section, settings=(*without, change.setting))
    value = change.setting.items[0].value
    if not before or len(change.setting.items) > 1:
        message = f"--set {text}: {section.kind} `{section.name.name}` has no `{name}` with arguments"
        report.error("E0817", message, None, help=FORM)
        return section
    whole = ", ".join([_with_argument(before[0].items[0], change.argument, value), *_texts(before[0].items[1:])])
    setting = _parsed(report, section.kind, name, whole, text)
    if setting is None:
        return section
    return replace(section, settings=tuple(setting if s is before[0] else s for s in section.settings))


def _with_argument(item: ast.Item, name: str, value: ast.Expression) -> str:
    """`sgd(lr=0.1, momentum=0.9) for fc` with one argument set, as text."""
    node = item.value
    function, arguments = (node.function, node.arguments) if isinstance(node, ast.Call) else (node, ())
    kept = [_line(a.span) for a in arguments if a.name is None or a.name.name != name]
    call = f"{_line(function.span)}({', '.join([*kept, f'{name}={_line(value.span)}'])})"
    return f"{call} for {item.pattern.name}" if item.pattern is not None else call


def _texts(items: Sequence[ast.Item]) -> list[str]:
    return [_line(item.span) for item in items]


def _line(span: Span) -> str:
    """The text of a span in one line, without comments."""
    rows = (row if '"' in row else row.partition("#")[0] for row in span.text.split("\n"))
    return " ".join(" ".join(rows).split())
