"""The page about a learning-rate range test: loss over rate, with the rates that it speaks for."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dlc.pages.chart import Axis, Line, Mark, line_chart
from dlc.pages.html import document, facts, section
from dlc.pages.scale import number


def rate_page(
    name: str,
    points: Sequence[tuple[float, float, float]],
    steepest: float | None,
    careful: float | None,
) -> str:
    """`points` are (rate, loss, smoothed loss), rates rising. What blew up is cut off above twice the first loss."""
    first = points[0][2] if points else 1.0
    shown = [p for p in points if p[2] <= 2 * first]
    lines = [
        Line("loss of the step", tuple((r, min(loss, 2 * first)) for r, loss, _ in shown), colour="#a9c7da"),
        Line("smoothed", tuple((r, smooth) for r, _, smooth in shown), colour=1),
    ]
    marks = [Mark(rate, text) for rate, text in ((steepest, "falls fastest"), (careful, "careful")) if rate is not None]
    chart = line_chart("Loss over learning rate", lines, Axis("learning rate", logarithmic=True), Axis("loss"), marks)
    found = [
        (text, number(rate))
        for rate, text in ((steepest, "the loss falls fastest"), (careful, "a tenth of the rate with the least loss"))
        if rate is not None
    ]
    words = (
        "<p>From fresh weights, the rate grows by the same factor from step to step (Smith, Cyclical Learning Rates, 2017). "
        "A rate below the place where the loss falls fastest is a good start; where it rises, training would diverge.</p>"
    )
    verdict = facts(found) if found else "<p>The loss never fell: try rates below or above these.</p>"
    return document(
        f"{name}: range test", [f"<h1>{escape(name)}: range test</h1>", verdict, section("Range test", words, chart)]
    )
