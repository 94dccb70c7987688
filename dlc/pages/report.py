"""The page about one run, `report.html`: curves, what they say, mistakes, filters and the scales of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from dlc.pages.chart import Axis, Line, Mark, bar_chart, line_chart, ramp
from dlc.pages.findings import cut_epoch, findings
from dlc.pages.html import document, facts, grid, section, table
from dlc.pages.run import Evaluation, Run
from dlc.pages.scale import number
from dlc.runtime.training.progress import duration

EPOCHS = Axis("epoch")
STATISTICS = {
    "activation.std": "standard deviation of activations",
    "activation.mean": "mean of activations",
    "activation.zeros": "share of activations that are zero",
    "gradient.norm": "norm of gradients by weights",
}


def report_page(run: Run) -> str:
    """The page as one piece of HTML that needs nothing else."""
    body = [
        f"<h1>{escape(run.name)}</h1>",
        f'<p class="soft">{escape(_subtitle(run))}</p>',
        facts(_facts(run)),
        section(
            "What the curves say",
            f'<ul class="findings">{"".join(f"<li>{escape(s)}</li>" for s in findings(run))}</ul>',
        ),
        section("Curves", grid(_curves(run))),
        section("Layers over time", grid(_layers(run))),
    ]
    if run.evaluation is not None:
        body += [
            section("Confusion matrix", _confusion(run.evaluation)),
            section("The most confident mistakes", _mistakes(run.evaluation)),
            section("First-layer filters", _filters(run.evaluation)),
            section("Where a training step's time goes", _times(run.evaluation)),
        ]
    body.append(section("Recipe", _recipe(run.recipe)))
    return document(f"{run.name}: training report", body)


def _subtitle(run: Run) -> str:
    train = run.recipe.get("train") or {}
    wanted = [f"{key} {train[key]}" for key in ("model", "data", "optimizer", "batch") if key in train]
    return " · ".join(map(str, wanted)) or str(run.recipe.get("name", ""))


def _facts(run: Run) -> list[tuple[str, str]]:
    entries = []
    if run.evaluation is not None and "error" in run.evaluation.test:
        entries.append(("test error", number(run.evaluation.test["error"], percent=True)))
    best = run.best("val.error")
    if best is not None:
        entries.append((f"best validation error (epoch {int(best['epoch'])})", number(best["val.error"], percent=True)))
    if run.history:
        last = run.history[-1]
        entries.append(("epochs", str(int(last["epoch"]))))
        if "step" in last:
            entries.append(("steps", f"{int(last['step']):,}"))
        if "seconds" in last:
            entries.append(("time", duration(float(last["seconds"]))))
        if last.get("images_per_second"):
            entries.append(("images a second", f"{float(last['images_per_second']):,.0f}"))
    return entries


def _curves(run: Run) -> list[str]:
    charts = []
    for measure, title in (("loss", "Loss"), ("error", "Error")):
        parts = [run.line(f"train.{measure}", "training", colour=0), run.line(f"val.{measure}", "validation", colour=1)]
        lines = [line for line in parts if line is not None]
        if lines:
            axis = Axis(measure, percent=measure == "error", logarithmic=_spans(lines))
            charts.append(line_chart(title, lines, EPOCHS, axis, _marks(run)))
    charts += _other_measures(run)
    rates = [run.line(key, "learning rate" if key == "lr" else f"group {key[3:]}") for key in _rates(run)]
    drawn = [line for line in rates if line is not None]
    if drawn:
        charts.append(line_chart("Learning rate", drawn, EPOCHS, Axis("learning rate", from_zero=True)))
    return charts


def _spans(lines: list[Line]) -> bool:
    """Whether values differ so much that only a logarithmic axis shows them: by more than a factor of 20, all positive."""
    values = [v for line in lines for _, v in line.points if v == v]
    return bool(values) and min(values) > 0 and max(values) / min(values) > 20


def _rates(run: Run) -> list[str]:
    return [key for key in dict.fromkeys(k for r in run.history for k in r) if key == "lr" or key.startswith("lr.")]


def _other_measures(run: Run) -> list[str]:
    """Charts of the metrics beyond loss and error, training and validation in one."""
    names = dict.fromkeys(
        key.partition(".")[2]
        for record in run.history
        for key, value in record.items()
        if key.startswith(("train.", "val.")) and isinstance(value, int | float)
    )
    charts = []
    for name in names:
        if name in ("loss", "error"):
            continue
        parts = [run.line(f"train.{name}", "training", colour=0), run.line(f"val.{name}", "validation", colour=1)]
        share = name.endswith(("error", "accuracy"))
        charts.append(
            line_chart(name.replace("_", " "), [p for p in parts if p is not None], EPOCHS, Axis(name, percent=share))
        )
    return charts


def _marks(run: Run) -> list[Mark]:
    measure = "val.loss" if run.line("val.loss") is not None else "val.error"
    line = run.line(measure)
    if line is None:
        return []
    marks = []
    best = run.best(measure)
    if best is not None and len(line.points) > 2:
        marks.append(Mark(float(best["epoch"]), "best"))
    stop = cut_epoch([value for _, value in line.points])
    if stop is not None:
        marks.append(Mark(line.points[stop][0], "early stopping"))
    return marks


def _layers(run: Run) -> list[str]:
    """One chart for each statistic, one curve for each layer, over the steps."""
    charts = []
    for key, title in STATISTICS.items():
        names = dict.fromkeys(name for record in run.layers for name in record.get(key) or {})
        lines = []
        if names and key.startswith("gradient"):
            order = {name: i for i, name in enumerate(run.layers[0].get("weight.mean") or names)}  # from the input on
            names = dict.fromkeys(sorted(names, key=lambda name: order.get(name, len(order))))
            names = {name: None for name in names if not name.endswith(".bias")} or names
        for name, colour in zip(names, ramp(len(names)), strict=True):
            points = tuple((float(r["step"]), float(r[key][name])) for r in run.layers if name in (r.get(key) or {}))
            lines.append(Line(name, points, colour=colour))
        if lines:
            logarithmic = key != "activation.mean" and key != "activation.zeros"
            charts.append(
                line_chart(
                    title[0].upper() + title[1:],
                    lines,
                    Axis("step"),
                    Axis(title, logarithmic=logarithmic, percent=key == "activation.zeros", from_zero=True),
                )
            )
    return charts


def _confusion(evaluation: Evaluation) -> str:
    matrix, classes = evaluation.confusion, evaluation.classes
    if not matrix:
        return ""
    if len(classes) > 30:
        pairs = sorted(
            ((count, t, a) for t, row in enumerate(matrix) for a, count in enumerate(row) if t != a and count),
            reverse=True,
        )
        rows = [(classes[t], classes[a], f"{count:,}") for count, t, a in pairs[:30]]
        return "<p>The pairs that are confused most.</p>" + table(("is", "was answered", "times"), rows, frozenset({2}))
    most = max((c for t, row in enumerate(matrix) for a, c in enumerate(row) if t != a), default=0) or 1
    head = "".join(f"<th>{escape(name)}</th>" for name in classes)
    lines = []
    for t, row in enumerate(matrix):
        total = sum(row) or 1
        cells = []
        for a, count in enumerate(row):
            strength = 0.10 + 0.35 * count / total if a == t else 0.75 * count / most
            colour = "0,114,178" if a == t else "213,94,0"
            style = f' style="background:rgba({colour},{strength:.2f})"' if count else ""
            title = f"{classes[t]} answered {classes[a]}: {count}"
            cells.append(f'<td{style} title="{escape(title)}">{count or "·"}</td>')
        recall = number(row[t] / total, percent=True)
        lines.append(f"<tr><th>{escape(classes[t])}</th>{''.join(cells)}<td>{recall}</td></tr>")
    return (
        '<p class="soft">Rows are what the image is, columns what was answered; the last column is the share that is right.</p>'
        f'<div class="scroll"><table class="confusion"><thead><tr><th></th>{head}<th>right</th></tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def _mistakes(evaluation: Evaluation) -> str:
    if not evaluation.mistakes:
        return "<p>None: every test image was answered right.</p>"
    pieces = []
    for m in evaluation.mistakes:
        truth, answer = evaluation.classes[m.truth], evaluation.classes[m.answer]
        text = f"{answer} ({number(round(m.probability, 3), percent=True)})<br>is {escape(truth)}"
        alt = f"test image {m.index}: {truth} answered as {answer}"
        pieces.append(
            f'<figure><img src="{m.image}" alt="{escape(alt)}" title="{escape(alt)}"><figcaption>{text}</figcaption></figure>'
        )
    return f'<div class="pictures">{"".join(pieces)}</div>'


def _filters(evaluation: Evaluation) -> str:
    if not evaluation.filters:
        return ""
    pieces = "".join(
        f'<img src="{uri}" alt="filter {i}" title="filter {i}">' for i, uri in enumerate(evaluation.filters)
    )
    return f'<p class="soft">The kernels of {escape(evaluation.filters_of)}, each scaled to its own range.</p><div class="pictures filters">{pieces}</div>'


def _times(evaluation: Evaluation) -> str:
    shown = [(entry.layer or "other", entry.milliseconds) for entry in evaluation.layers]
    if not shown:
        return ""
    if len(shown) > 40:
        kept = sorted(shown, key=lambda e: -e[1])[:39]
        rest = sum(ms for _, ms in shown) - sum(ms for _, ms in kept)
        shown = [e for e in shown if e in kept] + [(f"{len(evaluation.layers) - len(kept)} others", rest)]
    return bar_chart(f"One training step of {evaluation.batch} samples, by layer", shown, " ms")


def _recipe(recipe: Mapping[str, Any]) -> str:
    rows = []
    for part in ("train", "data"):
        rows += [(f"{part}.{key}", _text(value)) for key, value in (recipe.get(part) or {}).items()]
    return table(("setting", "value"), rows) if rows else ""


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={_text(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)
