"""Places the elements of a flow: a chain downwards, branches beside one another, a skip at the right of what it skips."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from dlc.compiler.layers.base import FeatureShape
from dlc.compiler.network import LayerCall, NetworkInput
from dlc.figures import notation
from dlc.figures.flow import Block, Branches, Chain, Element, Tangle, calls
from dlc.figures.notation import Kind
from dlc.figures.shapes import RADIUS, Box, Form, Frame, Join, Line, Note, Path, Piece, Shape
from dlc.figures.structure import Group, Node, Port, Unit, last
from dlc.figures.tangle import place

GAP = 18.0  # between two boxes in a row
ROOM = 26.0  # between two boxes with a size beside the line
LANE = 16.0  # between a chain and what runs beside it
PADDING = 10.0  # inside a frame
LINE = 15.0  # from one line of text to the next
SLANT = 7.0  # how much narrower a box becomes that makes the image smaller
WIDE = 155.0  # a line that is better two
SIGNS = {"add": "+", "multiply": "×"}


def result(element: Element | Node) -> FeatureShape | None:
    """The shape of what an element gives; None where it gives several tensors."""
    match element:
        case Port():
            port = element.port
            return port.shape if isinstance(port, NetworkInput) else port.tensor.shape
        case Block():
            return element.groups[-1].calls[-1].output.shape
        case Branches():
            return result(element.join) if element.join is not None else None
        case Tangle():
            return None
    return element.calls[-1].output.shape


def lines_of(node: Node) -> tuple[Line, ...]:
    """What a box says."""
    if isinstance(node, Port):
        return (Line(notation.size(result(node) or ()), node.name),)
    if isinstance(node, Group):
        return (Line(node.block, node.label),)
    main, *rest = node.calls
    text = notation.phrase(main.layer, main.output.shape, main.inputs[0].shape)
    lines = [Line(text, node.label)]
    if node.label and lines[0].width > WIDE:
        lines = [Line("", node.label), Line(text)]
    while rest:  # at most three words a line
        words = [_follower(call) for call in rest[:3]]
        lines.append(Line(" · ".join(words), size=10.5))
        rest = rest[3:]
    return tuple(lines)


def _follower(call: LayerCall) -> str:
    return notation.phrase(call.layer, call.output.shape, call.inputs[0].shape)


def block_line(groups: Sequence[Group]) -> Line:
    """The title of blocks in a row: "layer1.0–2  Basic ×3"."""
    first, count = groups[0], len(groups)
    label = first.label
    if count > 1:
        label = f"{first.name}–{last(groups[-1].name)}" if last(first.name).isdigit() else ""
    return Line(first.block + (f" ×{count}" if count > 1 else ""), label)


def box(node: Node, width: float = 0.0, groups: Sequence[Group] = (), dashed: bool = False) -> Piece:
    """A node as one box, at least `width` wide."""
    lines = (block_line(groups),) if groups else lines_of(node)
    form, kind = _form(node), _kind(node)
    width = max(width, natural(node, groups))
    height = 9 + LINE * len(lines)
    hint = "" if isinstance(node, Port) else "\n".join(describe(call) for call in node.calls)
    covered = [call.name for part in (groups or (node,)) for call in part.calls]
    shape = Box(-width / 2, 0, width, height, kind, lines, form, dashed, max(1, len(groups)), hint, tuple(covered))
    return Piece(width / 2, width / 2 + shape.behind, height + shape.behind, (shape,), solid=True)


def natural(node: Node, groups: Sequence[Group] = ()) -> float:
    """The width of a node's box where nothing else asks for more."""
    lines = (block_line(groups),) if groups else lines_of(node)
    slanted = 2 * SLANT if _form(node) in ("narrows", "widens") else 0.0
    return max(64.0, float(ceil(max(line.width for line in lines) + 18 + slanted)))


def _kind(node: Node) -> Kind:
    if isinstance(node, Port):
        return Kind.PORT
    return Kind.BLOCK if isinstance(node, Group) else notation.kind(node.calls[0].layer)


def _form(node: Node) -> Form:
    if isinstance(node, Port):
        return "round"
    if isinstance(node, Group):
        return "plain"
    main = node.calls[0]
    change = notation.scaling(main.layer, main.output.shape, main.inputs[0].shape)
    return "narrows" if change < 0 else "widens" if change > 0 else "plain"


def describe(call: LayerCall) -> str:
    """A call for the hint that a browser shows: "layer1.0.conv1 = conv(…): 64×56×56"."""
    return f"{call.name}: {notation.word(call.layer)}, {notation.size(call.output.shape)}"


def chain(flow: Chain, *, top: bool = False, shown: FeatureShape | None = None, dashed: bool = False) -> Piece:
    """Elements in a row downwards. Sizes stand beside the lines: each new one in the main chain, and each new height and
    width in the others."""
    width = common_width(flow.elements)
    shapes: list[Shape] = []
    left = right = y = 0.0
    solid = False
    for i, element in enumerate(flow.elements):
        piece = element_piece(element, width, dashed)
        if i:
            y, note = connect(shapes, y, piece.solid, result(flow.elements[i - 1]), shown, top, dashed)
            if note is not None:
                shown, right = result(flow.elements[i - 1]), max(right, 6 + note.line.width)
        else:
            solid = piece.solid
            shown = shown or entering(element)
        shapes += piece.at(0, y)
        left, right, y = max(left, piece.left), max(right, piece.right), y + piece.height
        shown = piece.shown or shown
    return Piece(left, right, y, tuple(shapes), solid, shown)


def common_width(elements: Sequence[Element]) -> float:
    """The width of the boxes in a row: that of the widest."""
    widths = [natural(e) for e in elements if isinstance(e, Unit | Port)]
    widths += [natural(e.groups[0], e.groups) for e in elements if isinstance(e, Block) and e.content is None]
    widths += [natural(e.join) for e in elements if isinstance(e, Branches) and e.join and not sign(e.join)]
    return max(widths, default=0.0)


def entering(element: Element | Chain) -> FeatureShape | None:
    """The shape of what flows into an element; None where it is not one tensor."""
    match element:
        case Unit():
            return element.calls[0].inputs[0].shape
        case Port():
            return result(element)
        case Block():
            return element.groups[0].calls[0].inputs[0].shape
        case Branches():
            return next((s for b in element.branches if b.elements and (s := entering(b.elements[0]))), None)
    return None


def connect(
    shapes: list[Shape], y: float, arrow: bool, shape: FeatureShape | None, shown: FeatureShape | None, top: bool,
    dashed: bool,
) -> tuple[float, Note | None]:  # fmt: skip
    """Adds the line from y down to the next element, with the size where it is news; where the next starts, the note."""
    note = None
    news = shape is not None and shape != shown
    if news and not top and shown is not None and shape is not None:
        news = shape[1:] != shown[1:]
    if news and shape is not None:
        note = Note(6, y + ROOM / 2 + 2.5, Line(notation.size(shape), size=10.0))
        shapes.append(note)
    end = y + (ROOM if note else GAP)
    shapes.append(Path(((0, y), (0, end)), arrow, dashed))
    return end, note


def element_piece(element: Element, width: float, dashed: bool = False) -> Piece:
    """One element, its box at least `width` wide."""
    match element:
        case Block():
            if element.content is None:
                return box(element.groups[0], width, element.groups, dashed)
            return frame(element.groups, chain(element.content, dashed=dashed))
        case Branches():
            return branches(element, width, dashed)
        case Tangle():
            return tangle(element, dashed)
    return box(element, width, dashed=dashed)


def frame(groups: Sequence[Group], inner: Piece) -> Piece:
    """A block that is open: its inside in a frame, its name at the left of the line that enters, ×3 at the right."""
    title = block_line(groups)
    name, what = Line("", title.lead, 10.5), Line(title.text, size=10.5)
    left = max(inner.left + PADDING, name.width + 14)
    right = max(inner.right + PADDING, what.width + 14)
    top, bottom = 26.0, 12.0
    height = top + inner.height + bottom
    extra = [call.name for group in groups[1:] for call in group.calls]
    shapes: list[Shape] = [
        Frame(-left, 0, left + right, height, calls=tuple(extra)),
        Path(((0, 0), (0, top)), inner.solid),
        *inner.at(0, top),
        Path(((0, top + inner.height), (0, height))),
    ]
    if name.lead:
        shapes.append(Note(-left + 7, 14, name, strong=True))
    shapes.append(Note(right - 7, 14, what, "end"))
    return Piece(left, right, height, tuple(shapes), shown=inner.shown)


def sign(node: Node | None) -> str:
    """The sign of a join that is a circle, "" for one that is a box."""
    return SIGNS.get(node.calls[0].layer.keyword, "") if isinstance(node, Unit) else ""


def branches(element: Branches, width: float, dashed: bool) -> Piece:
    """Branches and what joins them."""
    two = len(element.branches) == 2
    empty = any(not b.elements for b in element.branches)
    ports = any(_from_port(b) or _to_port(b) for b in element.branches)
    if two and not ports and (empty or sign(element.join)):
        return skip(element, width, dashed)
    return fork(element, width, dashed)


def _from_port(flow: Chain) -> bool:
    first = flow.elements[0] if flow.elements else None
    return isinstance(first, Port) and isinstance(first.port, NetworkInput)


def _to_port(flow: Chain) -> bool:
    final = flow.elements[-1] if flow.elements else None
    return isinstance(final, Port) and not isinstance(final.port, NetworkInput)


def join_piece(join: Unit | Group | Port, width: float, dashed: bool) -> Piece:
    """A join: a circle with what follows it at its left, or a box."""
    if not sign(join):
        return box(join, width, dashed=dashed)
    names = tuple(call.name for call in join.calls)
    hint = "\n".join(describe(call) for call in join.calls)
    shapes: list[Shape] = [Join(0, RADIUS, sign(join), hint, names)]
    left = RADIUS
    if len(join.calls) > 1:
        line = Line(" · ".join(_follower(call) for call in join.calls[1:]), size=10.5)
        shapes.append(Note(-RADIUS - 5, RADIUS + 4, line, "end"))
        left += 5 + line.width
    return Piece(left, RADIUS, 2 * RADIUS, tuple(shapes), solid=True)


def skip(element: Branches, width: float, dashed: bool) -> Piece:
    """A body and a lane at its right that goes around it: a shortcut, or a smaller branch."""
    body, lane = element.branches
    if len(calls(lane)) > len(calls(body)):
        body, lane = lane, body
    main, side = chain(body, dashed=dashed), chain(lane, dashed=dashed)
    top = 22.0
    room = max(main.height, side.height)
    x = max(main.right, 30.0) + LANE + side.left
    start = top + (room - side.height) / 2
    shapes: list[Shape] = [
        Path(((0, 0), (0, top)), main.solid, dashed), *main.at(0, top),
        Path(((0, 7), (x, 7), (x, start)), side.solid, dashed), *side.at(x, start),
    ]  # fmt: skip
    end = top + room
    left, right = main.left, x + max(side.right, 4.0)
    if element.join is None:
        shapes.append(Path(((x, start + side.height), (x, end + 8), (0, end + 8)), False, dashed))
        shapes.append(Path(((0, top + main.height), (0, end + 14)), False, dashed))
        return Piece(left, right, end + 14, tuple(shapes))
    join = join_piece(element.join, min(width, 2 * (x - 12)), dashed)
    y = end + 16
    middle = y + join.height / 2
    half = RADIUS if sign(element.join) else join.right
    if half > x - 8:  # the join reaches below the lane
        shapes.append(Path(((x, start + side.height), (x, y)), True, dashed))
    else:
        shapes.append(Path(((x, start + side.height), (x, middle), (half, middle)), True, dashed))
    shapes.append(Path(((0, top + main.height), (0, y)), True, dashed))
    shapes += join.at(0, y)
    return Piece(max(left, join.left), max(right, join.right), y + join.height, tuple(shapes), shown=main.shown)


def fork(element: Branches, width: float, dashed: bool) -> Piece:
    """Branches side by side under a line that splits, above a join that reaches over all."""
    pieces = [chain(b, dashed=dashed) for b in element.branches]
    axes, x = [], 0.0
    for i, piece in enumerate(pieces):
        x += piece.left + (LANE if i else 0)
        axes.append(x)
        x += max(piece.right, 4.0)
    shift = x / 2
    axes = [a - shift for a in axes]
    top = 24.0
    end = top + max(piece.height for piece in pieces)
    shapes: list[Shape] = []
    for flow, piece, axis in zip(element.branches, pieces, axes, strict=True):
        shapes += piece.at(axis, top)
        if not _from_port(flow):
            shapes.append(Path(((0, 0), (0, 8), (axis, 8), (axis, top)), piece.solid, dashed))
    open_ends = [
        (axis, top + piece.height)
        for flow, piece, axis in zip(element.branches, pieces, axes, strict=True)
        if not _to_port(flow)
    ]
    if element.join is None:
        for axis, bottom in open_ends:
            shapes.append(Path(((axis, bottom), (axis, end + 8), (0, end + 8), (0, end + 16)), False, dashed))
        return Piece(shift, shift, end + 16, tuple(shapes))
    y = end + 20
    if sign(element.join):
        join = join_piece(element.join, width, dashed)
        for axis, bottom in open_ends:
            shapes.append(Path(((axis, bottom), (axis, y - 12), (0, y - 12), (0, y)), True, dashed))
    else:
        join = join_piece(element.join, max(width, 2 * max(abs(a) for a in axes) + 30), dashed)
        shapes += [Path(((axis, bottom), (axis, y)), True, dashed) for axis, bottom in open_ends]
    shapes += join.at(0, y)
    return Piece(max(shift, join.left), max(shift, join.right), y + join.height, tuple(shapes))


def tangle(element: Tangle, dashed: bool) -> Piece:
    """Parts whose lines cross, in layers."""
    pieces = [box(node, dashed=dashed) for node in element.nodes]
    ports = {i for i, node in enumerate(element.nodes) if isinstance(node, Port)}
    edges = [(a, b) for a, b in element.edges if not (a < 0 and b in ports) and not (b < 0 and a in ports)]
    return place(pieces, edges, dashed)
