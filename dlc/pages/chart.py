"""Charts as SVG: lines over steps or epochs, and bars. Colours are those of Okabe and Ito, told apart by all eyes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from dlc.pages.scale import Scale, linear, logarithmic, number

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4c9a", "#8c8c00")
WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 44
MOST_NAMES = 18
"""Names in a legend."""
MOST_POINTS = 1200
"""Points that a line is drawn with; longer ones are thinned."""


@dataclass(frozen=True)
class Line:
    """One curve: points (x, y) in order of x. Points that are not finite leave a gap."""

    name: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False
    colour: int | str | None = None


@dataclass(frozen=True)
class Axis:
    """What an axis shows and how."""

    label: str
    logarithmic: bool = False
    percent: bool = False
    from_zero: bool = False

    def scale(self, values: Sequence[float]) -> Scale:
        """The scale that holds the values."""
        if self.logarithmic:
            return logarithmic(values, percent=self.percent)
        return linear(values, percent=self.percent, from_zero=self.from_zero)


@dataclass(frozen=True)
class Mark:
    """A place on the x axis that deserves a word."""

    x: float
    text: str


def line_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis, marks: Sequence[Mark] = ()) -> str:
    """Curves over a common x axis, as an SVG element with a legend; `title` is read out to those who cannot see it."""
    across = x.scale([p[0] for line in lines for p in line.points])
    if not x.logarithmic:  # curves use the whole width
        values = [p[0] for line in lines for p in line.points] or [0.0, 1.0]
        low, high = min(values), max(values)
        if high > low:
            across = Scale(low, high, tuple(t for t in across.ticks if low <= t <= high), percent=x.percent)
    up = y.scale([p[1] for line in lines for p in line.points])
    parts = [*_frame(across, up, x, y)]
    for row, mark in enumerate(marks):
        at = _x(across, mark.x)
        side = "end" if at > WIDTH * 0.6 else "start"
        shift = -4 if side == "end" else 4
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text class="mark" x="{at + shift:.1f}" y="{TOP + 11 + 13 * row}" text-anchor="{side}">{escape(mark.text)}</text>'
        )
    for index, line in enumerate(lines):
        parts.append(_curve(line, index, across, up))
    drawn = "".join(parts)
    svg = (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" data-left="{LEFT}" data-right="{WIDTH - RIGHT}">'
        f"<title>{escape(title)}</title>{drawn}</svg>"
    )
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}{legend(lines)}</figure>"


def legend(lines: Sequence[Line]) -> str:
    """The names of the curves with their colours, of very many some; nothing where there is only one."""
    if len(lines) < 2:
        return ""
    entries = []
    every = -(-len(lines) // MOST_NAMES)
    for index, line in enumerate(lines):
        if index % every and index != len(lines) - 1:
            continue
        dash = ' stroke-dasharray="5 3"' if line.dashed else ""
        colour = _colour(line, index)
        entries.append(
            f'<li><svg viewBox="0 0 24 8" aria-hidden="true"><line x1="1" x2="23" y1="4" y2="4" stroke="{colour}" '
            f'stroke-width="2.5"{dash}/></svg>{escape(line.name)}</li>'
        )
    return f'<ul class="legend">{"".join(entries)}</ul>'


def bar_chart(title: str, bars: Sequence[tuple[str, float]], unit: str = "") -> str:
    """Horizontal bars, one for each name, longest as wide as the chart; the value is written behind the bar."""
    row, left = 18, 190
    most = max((value for _, value in bars), default=1.0) or 1.0
    height = row * len(bars) + 6
    parts = []
    for index, (name, value) in enumerate(bars):
        top = index * row + 4
        width = max(1.0, (WIDTH - left - 90) * value / most)
        shown = name if len(name) <= 30 else name[:29] + "…"
        parts.append(
            f'<text x="{left - 6}" y="{top + 11}" text-anchor="end">{escape(shown)}<title>{escape(name)}</title></text>'
            f'<rect x="{left}" y="{top}" width="{width:.1f}" height="{row - 5}" fill="{COLOURS[0]}"/>'
            f'<text x="{left + width + 5:.1f}" y="{top + 11}">{escape(f"{value:,.3g}")}{escape(unit)}</text>'
        )
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg class="bars" viewBox="0 0 {WIDTH} {height}" role="img"><title>{escape(title)}</title>{"".join(parts)}</svg></figure>'
    )


def _frame(across: Scale, up: Scale, x: Axis, y: Axis) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = []
    for tick in up.ticks:
        at = _y(up, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 3.5:.1f}" text-anchor="end">{escape(up.text(tick))}</text>')
    for tick in across.ticks:
        at = _x(across, tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 15}" text-anchor="middle">{escape(across.text(tick))}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>')
    parts.append(
        f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x.label)}</text>'
    )
    middle = (TOP + bottom) / 2
    parts.append(
        f'<text class="label" x="12" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 12 {middle:.0f})">{escape(y.label)}</text>'
    )
    return parts


def _curve(line: Line, index: int, across: Scale, up: Scale) -> str:
    runs: list[list[tuple[float, float]]] = [[]]
    for at, value in thinned(line.points):
        if math.isfinite(value) and (not up.logarithmic or value > 0):
            runs[-1].append((at, value))
        elif runs[-1]:
            runs.append([])
    colour, dash = _colour(line, index), ' stroke-dasharray="5 3"' if line.dashed else ""
    parts = []
    for run in runs:
        if len(run) == 1:
            parts.append(
                f'<circle cx="{_x(across, run[0][0]):.1f}" cy="{_y(up, run[0][1]):.1f}" r="3" fill="{colour}"/>'
            )
        elif run:
            path = "L".join(f"{_x(across, a):.1f} {_y(up, v):.1f}" for a, v in run)
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
    dots = [(a, v) for run in runs for a, v in run]
    facts = ";".join(f"{_x(across, a):.1f},{_y(up, v):.1f},{number(a)},{up.text(v)}" for a, v in dots)
    return f'<g class="line" data-name="{escape(line.name)}" data-points="{escape(facts)}" style="color:{colour}">{"".join(parts)}</g>'


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most about `most` points: of each stretch its lowest and highest, so that no peak gets lost."""
    if len(points) <= most:
        return list(points)
    stretch = -(-2 * len(points) // most)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        ends = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        kept.extend(p for p in part if p in ends)
    return kept


def ramp(count: int) -> list[str]:
    """Colours from dark to light for things in a row, such as layers from the input on (viridis)."""
    stops = [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (212, 190, 20)]
    colours = []
    for index in range(count):
        place = index / max(count - 1, 1) * (len(stops) - 1)
        low = min(int(place), len(stops) - 2)
        mixed = [a + (b - a) * (place - low) for a, b in zip(stops[low], stops[low + 1], strict=True)]
        colours.append("#" + "".join(f"{round(part):02x}" for part in mixed))
    return colours


def _colour(line: Line, index: int) -> str:
    if isinstance(line.colour, str):
        return line.colour
    return COLOURS[(line.colour if line.colour is not None else index) % len(COLOURS)]


def _x(scale: Scale, value: float) -> float:
    return LEFT + scale.place(value) * (WIDTH - LEFT - RIGHT)


def _y(scale: Scale, value: float) -> float:
    return HEIGHT - BOTTOM - scale.place(value) * (HEIGHT - TOP - BOTTOM)
