"""The bar chart of the report: a panel for each kind of row, a group of bars for each row, all relative to dlc's time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from rows import ROWS, Row, family

COLOURS = {
    "dlc": "#1f6f54",
    "PyTorch": "#d9853b",
    "ONNX Runtime": "#7a6fb0",
    "OpenVINO": "#4f8fc0",
    "ncnn": "#b5b04a",
}
PANELS = (
    ("Forward, batch of 1", "forward", 1),
    ("Forward, batch of 8", "forward", 8),
    ("Training step", "train", None),
)
LONGEST = 6.0
"""Times slower than dlc at which bars are cut, so that one slow system does not flatten all others."""

_LEFT, _WIDTH, _BAR, _GAP = 190, 560, 13, 12


def draw(results: Mapping[str, Any]) -> str:
    """An SVG document; systems that did not run have no bar."""
    parts: list[str] = []
    y = 64.0
    for title, kind, batch in PANELS:
        rows = [r for r in ROWS.values() if r.kind == kind and (batch is None or r.batch == batch)]
        rows = [r for r in rows if "dlc" in _times(results, r)]
        if not rows:
            continue
        parts.append(_text(20, y, title, weight="600", size=15))
        top, y = y + 12, y + 18
        lines = len(parts)
        for row in rows:
            y = _group(parts, row, _times(results, row), y, named=kind == "train") + _GAP
        parts[lines:lines] = _scale(top, y - _GAP + 4)
        y += 34
    height = y
    legend = _legend()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 135} {height:.0f}" '
        f'font-family="system-ui, sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n'
        + _text(20, 28, "Time relative to dlc (shorter is faster)", weight="600", size=17)
        + "\n"
        + "\n".join([*legend, *parts])
        + "\n</svg>\n"
    )


def _times(results: Mapping[str, Any], row: Row) -> dict[str, float]:
    """Milliseconds by system, the best variant of each."""
    times: dict[str, float] = {}
    for name, figures in results["rows"].get(row.name, {}).get("time", {}).get("times", {}).items():
        times[family(name)] = min(times.get(family(name), float("inf")), figures["median"])
    return times


def _group(parts: list[str], row: Row, times: Mapping[str, float], y: float, *, named: bool) -> float:
    ours = times["dlc"]
    present = [name for name in COLOURS if name in times]
    middle = y + len(present) * _BAR / 2
    label = f"{row.network.name}, {row.batch}" if named else row.network.name
    parts.append(_text(_LEFT - 10, middle + 4, label, anchor="end"))
    for name in present:
        ratio = times[name] / ours
        length = min(ratio, LONGEST) / LONGEST * _WIDTH
        parts.append(
            f'<rect x="{_LEFT}" y="{y:.1f}" width="{length:.1f}" height="{_BAR - 2}" rx="1.5" fill="{COLOURS[name]}"/>'
        )
        said = f"{_milliseconds(times[name])} ms" + ("" if name == "dlc" else f" · {ratio:.2f}x")
        cut = " →" if ratio > LONGEST else ""
        parts.append(_text(_LEFT + length + 5, y + _BAR - 4, said + cut, size=10.5, colour="#333"))
        y += _BAR
    return y


def _scale(top: float, bottom: float) -> list[str]:
    parts = []
    for times in range(1, int(LONGEST) + 1):
        x = _LEFT + times / LONGEST * _WIDTH
        parts.append(f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}" stroke="#ddd" stroke-width="1"/>')
        parts.append(_text(x, bottom + 13, f"{times}x", anchor="middle", size=10, colour="#777"))
    return parts


def _legend() -> list[str]:
    parts, x = [], 400.0
    for name, colour in COLOURS.items():
        parts.append(f'<rect x="{x:.0f}" y="18" width="11" height="11" rx="2" fill="{colour}"/>')
        parts.append(_text(x + 16, 28, name))
        x += 34 + 7 * len(name)
    return parts


def _milliseconds(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: float = 12, weight: str = "400", colour: str = "#111"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}" paint-order="stroke" stroke="#fff" stroke-width="3">{escape(text)}</text>'
    )
