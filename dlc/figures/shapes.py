"""What a picture is made of: boxes with text, joins, lines, notes and frames, in pixels with y downwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from dlc.compiler.layers.base import FeatureShape
from dlc.figures.notation import Kind

Form = Literal["plain", "narrows", "widens", "round"]
"""A box, one that gets narrower downwards (the image becomes smaller) or wider, one with round ends."""

WIDTHS = {
    "'": 0.275, "ijl": 0.278, "IJ": 0.295, " ,.·": 0.318, "/:;\\|": 0.337, "f": 0.352, "-": 0.361, "()[]": 0.39,
    "t": 0.392, "!": 0.401, "r": 0.411, '"': 0.46, "*_`–": 0.5, "s": 0.521, "z": 0.525, "?": 0.531, "c": 0.55,
    "L": 0.557, "F": 0.575, "k": 0.579, "vxy": 0.592, "P": 0.603, "TY": 0.611, "oae": 0.615, "Ehnu": 0.634,
    "Sbdgpq$0123456789{}": 0.636, "K": 0.656, "AV": 0.684, "XZB": 0.686, "RC": 0.698, "U": 0.732, "NH": 0.752,
    "DG": 0.775, "&": 0.78, "OQ": 0.787, "w#+<=>^~×→": 0.838, "M": 0.863, "%": 0.95, "m": 0.974, "W": 0.989,
}  # fmt: skip
"""Widths of DejaVu Sans in em, the widest of the fonts that browsers take for sans-serif text."""

EM = {character: width for characters, width in WIDTHS.items() for character in characters}
BOLD = 1.15  # how much wider bold text is, at most, over a word


@dataclass(frozen=True)
class Line:
    """A line of text: a bold lead ("conv1") and the rest."""

    text: str
    lead: str = ""
    size: float = 12.0

    @property
    def width(self) -> float:
        """At most this wide in any sans-serif font of the list in `svg.py`."""
        gap = 0.5 * self.size if self.lead and self.text else 0.0
        return measure(self.lead, self.size) * BOLD + gap + measure(self.text, self.size)


def measure(text: str, size: float) -> float:
    """The width of a text, never less than it is."""
    return sum(EM.get(character, 1.0) for character in text) * size


@dataclass(frozen=True)
class Box:
    """A box with its lines in the middle, and the edges of its copies below and at the right of it.

    `calls` are the names of the layer calls that it stands for.
    """

    x: float
    y: float
    width: float
    height: float
    kind: Kind
    lines: tuple[Line, ...]
    form: Form = "plain"
    dashed: bool = False
    copies: int = 1
    hint: str = ""
    calls: tuple[str, ...] = ()

    @property
    def behind(self) -> float:
        """How far the copies reach, at most two of them."""
        return COPY * (min(self.copies, 3) - 1)


@dataclass(frozen=True)
class Join:
    """A circle with + or ×, around (x, y)."""

    x: float
    y: float
    sign: str
    hint: str = ""
    calls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Path:
    """A line along points, with rounded corners."""

    points: tuple[tuple[float, float], ...]
    arrow: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Note:
    """Text beside a line; `anchor` says which end of it is at x, y is its baseline."""

    x: float
    y: float
    line: Line
    anchor: Literal["start", "middle", "end"] = "start"
    strong: bool = False


@dataclass(frozen=True)
class Frame:
    """A rounded frame around what belongs together."""

    x: float
    y: float
    width: float
    height: float
    dashed: bool = False
    calls: tuple[str, ...] = ()


Shape = Box | Join | Path | Note | Frame
RADIUS = 9.0  # of a join
COPY = 4.0  # from one copy of a box to the next


def moved(shape: Shape, dx: float, dy: float) -> Shape:
    """A shape somewhere else."""
    if isinstance(shape, Path):
        return replace(shape, points=tuple((x + dx, y + dy) for x, y in shape.points))
    return replace(shape, x=shape.x + dx, y=shape.y + dy)


@dataclass(frozen=True)
class Piece:
    """Shapes around a vertical axis at x = 0, along which data comes in at y = 0 and leaves at y = `height`.

    `left` and `right` are how far they reach; `solid` says that what comes first is a box, which an arrow points at; `shown`
    is the size that the last note beside the axis gives.
    """

    left: float
    right: float
    height: float
    shapes: tuple[Shape, ...] = ()
    solid: bool = False
    shown: FeatureShape | None = None

    def at(self, x: float, y: float) -> tuple[Shape, ...]:
        """The shapes with the axis at x and the top at y."""
        return tuple(moved(shape, x, y) for shape in self.shapes)
