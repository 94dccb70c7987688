"""Writes a picture as SVG that stands alone: generic fonts, light fills that print well in black and white, no scripts."""

from __future__ import annotations

from html import escape

from dlc.figures.layout import LINE, SLANT
from dlc.figures.notation import Kind
from dlc.figures.page import Picture
from dlc.figures.shapes import COPY, RADIUS, Box, Frame, Join, Line, Note, Path, Shape

FILLS = {
    Kind.CONVOLUTION: "#a9cbe8",
    Kind.POOLING: "#f4b8a5",
    Kind.LINEAR: "#cfb8e2",
    Kind.NORM: "#d5e8b4",
    Kind.ACTIVATION: "#fdeeb0",
    Kind.MERGE: "#d9d9d9",
    Kind.SHAPE: "#efefef",
    Kind.BLOCK: "#bfe3d7",
    Kind.PORT: "#ffffff",
}
STYLE = """
text { font-family: Helvetica, Arial, "Liberation Sans", "DejaVu Sans", sans-serif; fill: #1a1a1a }
.lead { font-weight: bold }
.box, .join { stroke: #333; stroke-width: 1 }
.line { fill: none; stroke: #333; stroke-width: 1.2; stroke-linejoin: round }
.arrow { fill: #333 }
.frame { fill: #00000008; stroke: #888; stroke-width: 1; stroke-dasharray: 4 3 }
.note { fill: #555 }
"""
CORNER = 6.0


def write(picture: Picture) -> str:
    """The SVG document."""
    width, height = _n(picture.width), _n(picture.height)
    body = "\n".join(_shape(s) for s in sorted(picture.shapes, key=_layer))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-labelledby="title desc">\n<title id="title">{escape(picture.title)}</title>\n'
        f'<desc id="desc">{escape(picture.description)}</desc>\n<style>{STYLE}</style>\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _layer(shape: Shape) -> int:
    """Frames lie below lines, lines below boxes, text above all."""
    return {Frame: 0, Path: 1, Box: 2, Join: 2, Note: 3}[type(shape)]


def _shape(shape: Shape) -> str:
    match shape:
        case Box():
            return _box(shape)
        case Join():
            return _join(shape)
        case Path():
            return _path(shape)
        case Note():
            return _text(shape.line, shape.x, shape.y, shape.anchor, "" if shape.strong else "note")
    return (
        f'<rect class="frame" x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" '
        f'height="{_n(shape.height)}" rx="8"/>'
    )


def _box(box: Box) -> str:
    lines = [_outline(box, COPY * copy) for copy in range(round(box.behind / COPY), -1, -1)]
    top = box.y + box.height / 2 - LINE * len(box.lines) / 2
    for i, line in enumerate(box.lines):
        lines.append(_text(line, box.x + box.width / 2, top + LINE * i + 11, "middle", ""))
    title = f"<title>{escape(box.hint)}</title>" if box.hint else ""
    return f"<g>{title}{''.join(lines)}</g>"


def _outline(box: Box, offset: float) -> str:
    x, y, w, h = box.x + offset, box.y + offset, box.width, box.height
    style = f'class="box" fill="{FILLS[box.kind]}"' + (' stroke-dasharray="5 3"' if box.dashed else "")
    if box.form in ("narrows", "widens"):
        top, bottom = (0.0, SLANT) if box.form == "narrows" else (SLANT, 0.0)
        points = [(x + top, y), (x + w - top, y), (x + w - bottom, y + h), (x + bottom, y + h)]
        return f'<polygon {style} points="{" ".join(f"{_n(a)},{_n(b)}" for a, b in points)}"/>'
    radius = h / 2 if box.form == "round" else 2.5
    return f'<rect {style} x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}" rx="{_n(radius)}"/>'


def _join(join: Join) -> str:
    x, y, reach = join.x, join.y, 5.0
    arms = [(reach, 0.0), (0.0, reach)] if join.sign == "+" else [(3.6, 3.6), (3.6, -3.6)]
    cross = "".join(f'<path class="line" d="M{_n(x - a)} {_n(y - b)}L{_n(x + a)} {_n(y + b)}"/>' for a, b in arms)
    title = f"<title>{escape(join.hint)}</title>" if join.hint else ""
    circle = f'<circle class="join" fill="#ffffff" cx="{_n(x)}" cy="{_n(y)}" r="{_n(RADIUS)}"/>'
    return f"<g>{title}{circle}{cross}</g>"


def _text(line: Line, x: float, y: float, anchor: str, style: str) -> str:
    lead = f'<tspan class="lead">{escape(line.lead)}</tspan>' if line.lead else ""
    gap = f' dx="{_n(line.size / 2)}"' if lead and line.text else ""
    rest = f"<tspan{gap}>{escape(line.text)}</tspan>" if lead and line.text else escape(line.text)
    look = f' class="{style}"' if style else ""
    place = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(line.size)}"{place}{look}>{lead}{rest}</text>'


def _path(path: Path) -> str:
    points = _bends(path.points)
    parts = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        a, b = _towards(here, before), _towards(here, after)
        parts.append(f"L{_n(a[0])} {_n(a[1])}Q{_n(here[0])} {_n(here[1])} {_n(b[0])} {_n(b[1])}")
    end = points[-1]
    tip = _towards(end, points[-2], 5.0) if path.arrow else end
    parts.append(f"L{_n(tip[0])} {_n(tip[1])}")
    dash = ' stroke-dasharray="5 3"' if path.dashed else ""
    line = f'<path class="line"{dash} d="{"".join(parts)}"/>'
    return line + (_arrow(points[-2], end) if path.arrow else "")


def _bends(points: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    """A path's ends and corners: points that repeat, or lie on the way, left out."""
    found = [points[0]]
    for point in points[1:]:
        if point == found[-1]:
            continue
        if len(found) > 1 and (found[-2][0] == found[-1][0] == point[0] or found[-2][1] == found[-1][1] == point[1]):
            found.pop()
        found.append(point)
    return found if len(found) > 1 else [points[0], points[-1]]


def _towards(here: tuple[float, float], there: tuple[float, float], by: float = CORNER) -> tuple[float, float]:
    """The point on the way from here to there, `by` away, at most half of it."""
    dx, dy = there[0] - here[0], there[1] - here[1]
    length = abs(dx) + abs(dy)
    part = min(by / length, 0.5) if length else 0.0
    return here[0] + dx * part, here[1] + dy * part


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x, y = end
    if start[0] == end[0]:
        back = -7.0 if end[1] > start[1] else 7.0
        points = [(x, y), (x - 3.5, y + back), (x + 3.5, y + back)]
    else:
        back = -7.0 if end[0] > start[0] else 7.0
        points = [(x, y), (x + back, y - 3.5), (x + back, y + 3.5)]
    return f'<polygon class="arrow" points="{" ".join(f"{_n(a)},{_n(b)}" for a, b in points)}"/>'


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
