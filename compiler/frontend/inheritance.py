"""Sections that extend others: `train Fast extends Base { … }` has Base's settings but for those that it sets itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.report import Report
from dlc.compiler.frontend.suggestions import did_you_mean, listing

Sections = Mapping[str, ast.Section]


def excludes(name: str, other: str) -> bool:
    """Whether a setting takes another out besides itself: training lasts `epochs` or `steps`."""
    return name == other or {name, other} == {"epochs", "steps"}


def inherit(report: Report, own: Sections, known: Sections) -> dict[str, ast.Section]:
    """The sections of one kind that a file defines, each with what it inherits before what it sets itself.

    All lines of a setting are inherited, or none: a section that sets `optimizer` has none of its base's optimizers.
    `known` are the sections that may be extended besides the file's own, whole already. Reports bases that do not
    exist (E0820) and sections that extend themselves (E0821); what extends such a section keeps its `base`.
    """
    whole: dict[str, ast.Section] = {}
    open_: list[str] = []

    def complete(name: str) -> ast.Section:
        if name in whole:
            return whole[name]
        section = own[name]
        open_.append(name)
        base = _base(section)
        open_.pop()
        whole[name] = section if base is None else _extended(section, base)
        return whole[name]

    def _base(section: ast.Section) -> ast.Section | None:
        if section.base is None:
            return None
        name = section.base.name
        if name in open_:
            through = " -> ".join([*open_[open_.index(name) :], name])
            report.error("E0821", f"{section.kind} `{name}` extends itself: {through}", section.base.span)
            return None
        if name in own:
            return complete(name)
        if name not in known:
            names = [n for n in {**own, **known} if n != section.name.name]
            help = did_you_mean(name, names) or (f"there are {listing(names)}" if names else "")
            message = f"there is no {section.kind} section `{name}` to extend"
            report.error("E0820", message, section.base.span, help=help)
            return None
        return known[name]

    return {name: complete(name) for name in own}


def _extended(section: ast.Section, base: ast.Section) -> ast.Section:
    own = [setting.name.name for setting in section.settings]
    kept = [s for s in base.settings if not any(excludes(name, s.name.name) for name in own)]
    return replace(section, settings=(*kept, *section.settings), base=base.base)
