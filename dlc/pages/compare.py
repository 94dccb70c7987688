"""The page that lays runs over each other: one chart for each measure, one curve for each run, and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dlc.pages.chart import Axis, Line, line_chart
from dlc.pages.html import document, grid, section, table
from dlc.pages.run import Run
from dlc.pages.scale import number
from dlc.runtime.training.progress import duration

MEASURES = (
    ("train.loss", "Training loss"),
    ("val.loss", "Validation loss"),
    ("train.error", "Training error"),
    ("val.error", "Validation error"),
    ("lr", "Learning rate"),
)


def compare_page(runs: Sequence[Run]) -> str:
    """The page as one piece of HTML that needs nothing else."""
    names = names_of(runs)
    charts = []
    for measure, title in MEASURES:
        lines = [_line(run, measure, name, i) for i, (run, name) in enumerate(zip(runs, names, strict=True))]
        drawn = [line for line in lines if line is not None]
        if drawn:
            values = [v for line in drawn for _, v in line.points if v == v and v > 0]
            wide = measure != "lr" and len(values) > 1 and max(values) / min(values) > 20
            charts.append(line_chart(title, drawn, Axis("epoch"), Axis(title.lower(), wide, measure.endswith("error"))))
    body = [
        f"<h1>{len(runs)} runs compared</h1>",
        f'<p class="soft">{escape(" · ".join(names))}</p>',
        section("Results", _results(runs, names)),
        section("Curves", grid(charts)),
        section("What differs in the recipes", _differences(runs, names)),
    ]
    return document("Runs compared", body)


def names_of(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its directory's, with as many parents as tell it from the others."""
    parts = [run.folder.resolve().parts for run in runs]
    for count in range(1, max(map(len, parts)) + 1):
        names = [str(Path(*p[-count:])) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{run.name} ({i + 1})" for i, run in enumerate(runs)]


def _line(run: Run, measure: str, name: str, index: int) -> Line | None:
    return run.line(measure, name, colour=index, dashed=index >= 8)


def _results(runs: Sequence[Run], names: Sequence[str]) -> str:
    rows = []
    for run, name in zip(runs, names, strict=True):
        last: Mapping[str, Any] = run.history[-1] if run.history else {}
        best = run.best("val.error")
        test = run.evaluation.test.get("error") if run.evaluation else None
        rows.append(
            (
                name,
                number(test, percent=True) if test is not None else "-",
                f"{number(best['val.error'], percent=True)} (epoch {int(best['epoch'])})" if best else "-",
                number(last["train.error"], percent=True) if last.get("train.error") is not None else "-",
                number(last["train.loss"]) if last.get("train.loss") is not None else "-",
                str(int(last["epoch"])) if last else "0",
                duration(float(last["seconds"])) if "seconds" in last else "-",
            )
        )
    head = ("run", "test error", "best validation error", "training error", "training loss", "epochs", "time")
    return table(head, rows, frozenset(range(1, 7)))


def _differences(runs: Sequence[Run], names: Sequence[str]) -> str:
    flat = [dict(_flat(run.recipe)) for run in runs]
    keys = dict.fromkeys(key for entry in flat for key in entry)
    rows = []
    for key in keys:
        values = [entry.get(key, "-") for entry in flat]
        if len(set(values)) > 1 and not key.startswith(("name", "preprocessing", "samples")):
            rows.append((key, *values))
    return table(("setting", *names), rows) if rows else "<p>Nothing: the recipes are the same.</p>"


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{path}.{key}" if path else str(key))]
    if isinstance(value, list):
        return [(path, ", ".join(map(str, value)))]
    return [(path, str(value))]
