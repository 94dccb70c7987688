"""A whole picture: the main chain in columns, what leaves it at its sides, the inside of blocks beside it, a legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod, sqrt

from dlc.compiler.layers.base import FeatureShape
from dlc.compiler.network import Network
from dlc.figures.flow import Block, Branches, Chain, Element, Flow, Side, Tangle, flow, inside
from dlc.figures.layout import GAP, chain, common_width, connect, element_piece, entering, frame, result
from dlc.figures.notation import Kind, size
from dlc.figures.shapes import Box, Join, Line, Note, Path, Piece, Shape, moved
from dlc.figures.structure import Group, Part, entries, structure

MARGIN = 16.0
GUTTER = 34.0  # between columns
ASPECT = 1.3  # width to height that a page likes
LANE_SIDE = 16.0  # between the main chain and what leaves it
AROUND = 130.0  # what title, legend and margins take of the height
BUDGET = 36  # boxes that a reader takes in at once
PANELS = 4  # blocks whose inside is shown beside the whole


@dataclass(frozen=True)
class Picture:
    """Shapes within a width and a height, and what they show in words."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    title: str
    description: str


def picture(network: Network, depth: int | None = None) -> Picture:
    """A network with its blocks open to a depth; by default as far as a reader can follow, with the inside of those that
    stay closed beside it."""
    chosen = readable_depth(network) if depth is None else depth
    seen = flow(network, chosen)
    panels = [panel(network, group) for group in closed_blocks(seen)] if depth is None else []
    best: tuple[float, list[Shape], float, float] | None = None
    for shapes, width, height in columns(seen):
        more, whole, tall = beside(panels, width, height)
        ratio = (whole + 2 * MARGIN) / (tall + AROUND)
        badness = max(ratio / ASPECT, ASPECT / ratio)
        if best is None or (badness < best[0] and height < 0.85 * best[3]):
            best = badness, shapes + more, whole, tall
    assert best is not None
    return finish(*best[1:], network.name, describe(network))


def picture_of(network: Network, group: Group, depth: int | None = None) -> Picture:
    """The inside of one block; `depth` as in `picture`, counted from the block."""
    chosen = _readable_inside(network, group) if depth is None else depth
    piece = framed(group, network, chosen)
    shapes = list(piece.at(piece.left, 16))
    out = group.calls[-1].output.shape
    title = f"{group.block} ({group.name})" if group.block and group.block != group.name else group.name
    taken = " and ".join(size(t.shape) for t in entries(group))
    description = f"in {network.name}: {taken} to {size(out)}"
    return finish(shapes, piece.left + piece.right, piece.height + 32, title, description)


def readable_depth(network: Network) -> int:
    """The deepest opening of blocks that stays within the budget of boxes."""
    depth = 0
    most = deepest(structure(network))
    while depth < most and count(flow(network, depth + 1)) <= BUDGET:
        depth += 1
    return depth


def deepest(parts: Sequence[Part]) -> int:
    """How many blocks stand within one another."""
    return max((bool(p.block) + deepest(p.parts) for p in parts if isinstance(p, Group)), default=0)


def count(seen: Flow) -> int:
    """The boxes of a flow."""
    return sum(_count(e) for c in (seen.main, *(s.chain for s in seen.sides)) for e in c.elements)


def _count(element: Element) -> int:
    match element:
        case Block() if element.content is not None:
            return sum(_count(e) for e in element.content.elements)
        case Branches():
            return sum(_count(e) for b in element.branches for e in b.elements)
        case Tangle():
            return len(element.nodes)
    return 1


def closed_blocks(seen: Flow) -> list[Group]:
    """The first of each block that stays closed."""
    found: dict[str, Group] = {}
    for c in (seen.main, *(s.chain for s in seen.sides)):
        for group in _closed(c):
            found.setdefault(group.block, group)
    return list(found.values())[:PANELS]


def _closed(seen: Chain) -> Iterator[Group]:
    for element in seen.elements:
        match element:
            case Block() if element.content is None:
                yield element.groups[0]
            case Block() if element.content is not None:
                yield from _closed(element.content)
            case Branches():
                for branch in element.branches:
                    yield from _closed(branch)
                if isinstance(element.join, Group):
                    yield element.join
            case Tangle():
                yield from (n for n in element.nodes if isinstance(n, Group))


def panel(network: Network, group: Group) -> Piece:
    """The inside of a closed block, as a figure of its own: the blocks in it stay closed where it would be too large."""
    return framed(group, network, _readable_inside(network, group))


def framed(group: Group, network: Network, depth: int) -> Piece:
    """The inside of a block in a frame, with the lines that go in and out."""
    piece = frame((group,), chain(inside(network, group, depth)))
    stubs = (Path(((0, -16), (0, 0))), Path(((0, piece.height), (0, piece.height + 16)), True))
    return Piece(piece.left, piece.right, piece.height, (*piece.shapes, *stubs))


def _readable_inside(network: Network, group: Group) -> int:
    depth = deepest(group.parts)
    while depth and sum(_count(e) for e in inside(network, group, depth).elements) > BUDGET:
        depth -= 1
    return depth


@dataclass
class Column:
    """A column while it is filled: shapes around the axis x = 0."""

    shapes: list[Shape]
    left: float = 0.0
    right: float = 0.0
    bottom: float = 0.0


def columns(seen: Flow) -> Iterator[tuple[list[Shape], float, float]]:
    """The main chain in one column, and in numbers of columns that bring it near the shape of a page, each as shapes, width
    and height."""
    previous = _cuts(seen, 1)
    shapes, width, height = _place(seen, previous)
    yield shapes, width, height
    likely = round(sqrt(ASPECT * height / width))
    for number in range(2 if likely < 6 else likely - 2, likely + 3):
        cuts = _cuts(seen, number)
        if cuts != previous:
            yield _place(seen, cuts)
        previous = cuts


def _cuts(seen: Flow, number: int) -> list[int]:
    """Where to break the main chain into columns of about one height: the places of the elements that start one."""
    heights = [element_piece(e, 0).height + GAP for e in seen.main.elements]
    low, high = max(heights), sum(heights)
    while high - low > 1:
        middle = (low + high) / 2
        if len(_filled(heights, middle)) <= number:
            high = middle
        else:
            low = middle
    return _filled(heights, high)


def _filled(heights: Sequence[float], limit: float) -> list[int]:
    starts, used = [0], 0.0
    for i, height in enumerate(heights):
        if used + height > limit and i:
            starts.append(i)
            used = 0.0
        used += height
    return starts


def _place(seen: Flow, starts: Sequence[int]) -> tuple[list[Shape], float, float]:
    """The columns that start at the given elements, and the lines from the end of one to the start of the next."""
    elements = seen.main.elements
    width = common_width(elements)
    shown: FeatureShape | None = entering(elements[0])
    made: list[Column] = []
    for start, end in zip(starts, [*starts[1:], len(elements)], strict=True):
        column, shown = _column(elements, start, end, seen.sides, width, shown)
        made.append(column)
    shapes: list[Shape] = []
    x, height = 0.0, max(c.bottom for c in made)
    for i, column in enumerate(made):
        axis = x + column.left
        shapes += [moved(s, axis, 0) for s in column.shapes]
        x = axis + column.right
        if i + 1 < len(made):
            there = x + GUTTER + made[i + 1].left
            lane = x + GUTTER / 2
            turn = column.bottom
            points = ((axis, turn - 10), (axis, turn), (lane, turn), (lane, -22), (there, -22), (there, 0))
            shapes.append(Path(points, True))
            x += GUTTER
    return [moved(s, 0, 22) for s in shapes], x, height + 22


def _column(
    elements: Sequence[Element], start: int, end: int, sides: Sequence[Side], width: float, shown: FeatureShape | None
) -> tuple[Column, FeatureShape | None]:
    """One column, what leaves it at its sides, and the size that was shown last."""
    column = Column([])
    pieces = [element_piece(elements[i], width) for i in range(start, end)]
    reach = {"left": max(p.left for p in pieces), "right": max(80.0, *(p.right for p in pieces))}
    taken = {"left": 0.0, "right": 0.0}  # down to where a side is in use
    y = 0.0
    for i, piece in zip(range(start, end), pieces, strict=True):
        if i > start:
            y, note = connect(column.shapes, y, piece.solid, result(elements[i - 1]), shown, True, False)
            shown = result(elements[i - 1]) if note is not None else shown
            column.right = max(column.right, 6 + note.line.width if note is not None else 0)
        leaving = [side for side in sides if side.at == i]
        if leaving:  # further down, until as many sides are free as are needed
            y = max(y, sorted(taken.values())[len(leaving) - 1] - piece.height)
        column.shapes += piece.at(0, y)
        column.left, column.right = max(column.left, piece.left), max(column.right, piece.right)
        y += piece.height
        shown = piece.shown or shown
        for side in leaving:
            head = chain(side.chain, dashed=side.training_only)
            where = "right" if taken["right"] <= y else "left"
            axis = (
                reach["right"] + LANE_SIDE + head.left
                if where == "right"
                else -(reach["left"] + LANE_SIDE + head.right)
            )
            top = max(y, taken[where]) + 30
            column.shapes.append(Path(((0, y + 6), (axis, y + 6), (axis, top)), head.solid, side.training_only))
            column.shapes += head.at(axis, top)
            taken[where] = top + head.height + 12
            column.left = max(column.left, head.left - axis)
            column.right = max(column.right, axis + head.right)
            column.bottom = max(column.bottom, top + head.height)
        if leaving:
            column.shapes.append(Path(((0, y), (0, y + 10))))
            y += 10
    if end < len(elements):  # the line goes on in the next column
        bottom = max(y + 16, column.bottom + 10)
        shape = result(elements[end - 1])
        if shape is not None and shape != shown:
            note = Note(6, y + 11, Line(size(shape), size=10.0))
            column.shapes.append(note)
            column.right, shown = max(column.right, 6 + note.line.width), shape
            bottom = max(bottom, y + 24)
        column.shapes.append(Path(((0, y), (0, bottom - 10))))
        column.bottom = bottom
    column.bottom = max(column.bottom, y)
    return column, shown


def beside(panels: Sequence[Piece], width: float, height: float) -> tuple[list[Shape], float, float]:
    """Panels at the right of what is there, one below the other, in further columns where the height is used up."""
    shapes: list[Shape] = []
    x, y, column = width + 2 * GUTTER, 20.0, 0.0
    tall = max([height, *(p.height + 40 for p in panels)])
    for piece in panels:
        if y > 20 and y + piece.height + 20 > tall:
            x, y, column = x + column + GUTTER, 20.0, 0.0
        shapes += piece.at(x + piece.left, y)
        column = max(column, piece.left + piece.right)
        y += piece.height + 52
        height = max(height, y - 30)
    return shapes, (x + column if panels else width), height


def finish(shapes: list[Shape], width: float, height: float, title: str, description: str) -> Picture:
    """A picture with its title above, a legend below, and a margin around."""
    head = [Note(0, 14, Line("", title, 15.0), strong=True), Note(0, 31, Line(description, size=11.0))]
    top = 46.0
    legend, legend_width, legend_height = _legend(shapes, max(width, *(n.line.width for n in head)))
    whole = max(width, legend_width, *(n.line.width for n in head))
    body = [moved(s, (whole - width) / 2, top) for s in shapes]
    bottom = top + height + 22
    placed = [moved(s, MARGIN, MARGIN) for s in [*head, *body, *(moved(s, 0, bottom) for s in legend)]]
    return Picture(whole + 2 * MARGIN, bottom + legend_height + 2 * MARGIN, tuple(placed), title, description)


def _legend(shapes: Sequence[Shape], width: float) -> tuple[list[Shape], float, float]:
    """A swatch with a word for each kind of box that occurs, in rows of a width."""
    kinds = {s.kind for s in shapes if isinstance(s, Box)}
    entries: list[tuple[Shape, Line]] = [
        (Box(0, 0, 22, 12, kind, ()), Line(kind.value, size=10.5))
        for kind in Kind
        if kind in kinds and kind is not Kind.PORT
    ]
    narrow = [s for s in shapes if isinstance(s, Box) and s.form == "narrows"]
    wide = [s for s in shapes if isinstance(s, Box) and s.form == "widens"]
    if narrow:
        entries.append((Box(0, 0, 22, 12, Kind.PORT, (), "narrows"), Line("makes the image smaller", size=10.5)))
    if wide:
        entries.append((Box(0, 0, 22, 12, Kind.PORT, (), "widens"), Line("makes it larger", size=10.5)))
    signs = {s.sign for s in shapes if isinstance(s, Join)}
    entries += [
        (Join(11, 6, sign), Line(text, size=10.5)) for sign, text in (("+", "sum"), ("×", "product")) if sign in signs
    ]
    if any(isinstance(s, Path) and s.dashed for s in shapes):
        entries.append((Path(((0, 6), (22, 6)), dashed=True), Line("in training only", size=10.5)))
    found: list[Shape] = []
    x = y = reach = 0.0
    for swatch, line in entries:
        step = 28 + line.width + 18
        if x and x + step - 18 > width:
            x, y = 0.0, y + 20
        found += [moved(swatch, x, y), Note(x + 28, y + 10, line)]
        x += step
        reach = max(reach, x - 18)
    return found, reach, y + 14


def describe(network: Network) -> str:
    """What a caption says: parameters and multiply-adds."""
    kept = network.inference_calls()
    weights = {c.weights[k]: s for c in kept for k, s in c.parameters.items() if s.trainable}
    parameters = sum(prod(spec.shape) for spec in weights.values())
    macs = sum(c.layer.macs(*(t.shape for t in c.inputs)) for c in kept)
    return f"{parameters:,} parameters, {macs:,} multiply-adds"
