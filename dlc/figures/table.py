"""The table of one network as its paper has it: a row for each layer or block, equal blocks in a row told once.

Blocks of branches that are joined by channels (inception) get columns for the widths of their branches; other blocks list
the layers of their longest way ("3×3, 64" below one another), as tables of residual networks do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

from dlc.compiler.layers.base import FeatureShape
from dlc.compiler.network import LayerCall, Network
from dlc.figures.flow import Block, Branches, Chain, Element, Reader, Tangle, calls
from dlc.figures.layout import sign
from dlc.figures.notation import Kind, channels, connectivity, kind, size, stride, window, word
from dlc.figures.structure import Group, Part, Unit, entries, last

Heading = tuple[str, int]
"""What a column of widths is called, and the how many-th of that name it is: a block may have two branches of 3×3."""


@dataclass(frozen=True)
class Row:
    """A layer, or blocks in a row. `lines` are the layers of a block's longest way, `widths` those of its branches.

    `parameters` are trained weights that no row above has, `macs` multiply-adds, `connections` incoming values and biases
    of all units, each for one sample.
    """

    label: str
    type: str
    window: str
    output: FeatureShape
    lines: tuple[str, ...]
    norms: tuple[str, ...]
    depth: int
    parameters: int
    macs: int
    connections: int
    count: int = 1
    block: bool = False
    widths: tuple[tuple[Heading, str], ...] = ()
    training_only: bool = False


@dataclass
class Counts:
    """Sums over calls, a shared weight counted once."""

    seen: set[str] = field(default_factory=set)

    def parameters(self, of: Iterable[LayerCall]) -> int:
        """Trained weights that were not counted before."""
        found = 0
        for call in of:
            for key, spec in call.parameters.items():
                if spec.trainable and call.weights[key] not in self.seen:
                    self.seen.add(call.weights[key])
                    found += prod(spec.shape)
        return found


def rows(network: Network) -> list[Row]:
    """The rows of a network's table, in order; those that only training has at the end."""
    kept = {id(call) for call in network.inference_calls()}
    counts = Counts()
    found: list[Row] = []
    last_call: LayerCall | None = None
    reader = Reader(network)
    for part in _flat(reader.parts, reader.blocks):
        row = _row(reader, part, counts, not any(id(call) in kept for call in part.calls))
        before = found[-1] if found else None
        in_a_row = any(tensor.producer is last_call for tensor in entries(part))
        if before is not None and in_a_row and _same(before, row):
            row = _together(before, row)
            found.pop()
        found.append(row)
        last_call = part.calls[-1]
    return sorted(found, key=lambda row: row.training_only)


def _flat(parts: Sequence[Part], uses: Counter[str]) -> Iterator[Part]:
    """The parts that make rows: scopes, blocks of blocks and rows of layers that stand once are taken apart."""
    for part in parts:
        if isinstance(part, Unit):
            yield part
            continue
        of_blocks = all(isinstance(p, Group) for p in part.parts)
        in_a_row = all(isinstance(p, Unit) and len(p.calls[0].inputs) == 1 for p in part.parts)
        numbered = not part.block and last(part.name).isdigit() and not of_blocks
        once = bool(part.block) and uses[part.block] == 1 and in_a_row
        if of_blocks or once or not (part.block or numbered):
            yield from _flat(part.parts, uses)
        else:
            yield part


def _row(reader: Reader, part: Part, counts: Counts, training_only: bool) -> Row:
    own = part.calls
    sums = (counts.parameters(own), sum(macs(c) for c in own), sum(connections(c) for c in own))
    norms = tuple(word(c.layer) for c in own if kind(c.layer) is Kind.NORM)
    if isinstance(part, Unit):
        main = own[0]
        words = " + ".join(_with_numbers(call) for call in own)
        line = (line_of(part),)
        sized = _sized(main)
        image = next(
            (c for c in reversed(own) if c.layer.keyword != "flatten"), main
        )  # the image says more than its length
        return Row(
            part.label,
            words,
            sized,
            image.output.shape,
            line,
            norms,
            weighted_depth(own),
            *sums,
            training_only=training_only,
        )
    chain = reader.inside(part, 99)
    widths = tuple(_widths(chain))
    label = part.label
    if last(part.name).isdigit():
        label = part.name.rpartition(".")[0]
    lines = () if widths else tuple(_lines(chain))
    return Row(
        label, part.block, "", own[-1].output.shape, lines, norms, weighted_depth(own), *sums, 1, True, widths, training_only
    )  # fmt: skip


def _same(a: Row, b: Row) -> bool:
    """Whether two rows are told as one: blocks with the same layers on their longest way."""
    return a.block and (a.type, a.lines, a.widths, a.training_only) == (b.type, b.lines, b.widths, b.training_only) and (
        a.label == b.label
    )  # fmt: skip


def _together(a: Row, b: Row) -> Row:
    return Row(
        a.label, a.type, a.window, b.output, a.lines, a.norms, a.depth + b.depth, a.parameters + b.parameters,
        a.macs + b.macs, a.connections + b.connections, a.count + b.count, True, a.widths, a.training_only,
    )  # fmt: skip


def _with_numbers(call: LayerCall) -> str:
    text = ", ".join([word(call.layer), *connectivity(call.layer, call.inputs[0].shape)])
    return f"{text} {vars(call.layer)['p']:g}" if call.layer.keyword == "dropout" else text


def _sized(call: LayerCall) -> str:
    """ "7×7/2", and for pools to a size, that size."""
    layer = call.layer
    if not hasattr(layer, "kernel"):
        return f"to {window(call.output.shape[1:])}" if layer.keyword == "adaptive_avg_pool" else ""
    return f"{window(layer.kernel)}/{_plain(stride(layer))}"


def _plain(value: int | tuple[int, int]) -> str:
    return str(value) if isinstance(value, int) else window(value)


def line_of(unit: Unit) -> str:
    """A unit in a cell: "3×3, 64", "3×3, 64, 2 groups", "3×3 max pool", "linear, 4096"."""
    layer = unit.calls[0].layer
    if kind(layer) is Kind.CONVOLUTION:
        name = "" if layer.keyword in ("conv", "conv_connect") else f" {word(layer)}"
        facts = [f"{window(vars(layer)['kernel'])}{name}", str(channels(layer))]
        return ", ".join([*facts, *connectivity(layer, unit.calls[0].inputs[0].shape)])
    if kind(layer) is Kind.LINEAR:
        return f"{word(layer)}, {channels(layer)}"
    if hasattr(layer, "kernel"):
        step = stride(layer)
        return f"{window(layer.kernel)} {word(layer)}" + (f", /{_plain(step)}" if step != 1 else "")
    return word(layer)


def _lines(chain: Chain) -> Iterator[str]:
    """The layers of a chain's longest way, a line each; activations and norms that stand alone are left out."""
    for element in chain.elements:
        yield from _element_lines(element)


def _element_lines(element: Element) -> Iterator[str]:
    match element:
        case Unit():
            if kind(element.calls[0].layer) not in (Kind.NORM, Kind.ACTIVATION, Kind.MERGE):
                yield line_of(element)
        case Block():
            inner = tuple(_lines(element.content)) if element.content is not None else (element.groups[0].block,)
            for _ in element.groups:
                yield from inner
        case Branches():
            ways = [tuple(_lines(b)) for b in element.branches]
            if sign(element.join) or sum(bool(way) for way in ways) == 1:
                yield from max(ways, key=len)
            else:
                yield " | ".join(" → ".join(way) or "identity" for way in ways)
        case Tangle():
            for node in element.nodes:
                if isinstance(node, Unit):
                    yield from _element_lines(node)


def _widths(chain: Chain) -> Iterator[tuple[Heading, str]]:
    """Heading and number for each layer in the branches of an inception block; nothing for another block."""
    forks = [e for e in chain.elements if isinstance(e, Branches)]
    if len(chain.elements) != 1 or not forks or len(forks[0].branches) < 3 or sign(forks[0].join):
        return
    if not all(isinstance(e, Unit) for b in forks[0].branches for e in b.elements):
        return
    used: Counter[str] = Counter()
    for branch in forks[0].branches:
        pooled = any(kind(call.layer) is Kind.POOLING for call in calls(branch))
        layers = [e.calls[0].layer for e in branch.elements if kind(e.calls[0].layer) is Kind.CONVOLUTION]  # type: ignore[union-attr]
        for i, layer in enumerate(layers):
            own, final = window(vars(layer)["kernel"]), window(vars(layers[-1])["kernel"])
            reduces = i + 1 < len(layers) and own == "1×1"
            heading = "pool\nproj" if pooled else f"#{final}\nreduce" if reduces else f"#{own}"
            used[heading] += 1
            yield (heading, used[heading]), str(channels(layer))


def macs(call: LayerCall) -> int:
    """Multiply-adds of a call, for one sample."""
    return call.layer.macs(*(t.shape for t in call.inputs))


def connections(call: LayerCall) -> int:
    """Incoming values and biases of all units of a layer that has weights, for one sample (LeCun et al. 1998)."""
    if kind(call.layer) in (Kind.NORM, Kind.ACTIVATION) or not call.parameters:
        return 0
    units = prod(call.output.shape)
    incoming = macs(call)
    if not incoming:
        kernel = vars(call.layer).get("kernel")
        taken = (kernel**2 if isinstance(kernel, int) else prod(kernel)) if kernel else prod(call.inputs[0].shape)
        incoming = units * taken
    return incoming + (units if any(spec.role == "bias" for spec in call.parameters.values()) else 0)


def weighted_depth(own: Sequence[LayerCall]) -> int:
    """How many convolutions and linear layers stand one after the other, at most."""
    depth: dict[int, int] = {}
    for call in own:
        before = max((depth.get(id(t.producer), 0) for t in call.inputs), default=0)
        depth[id(call)] = before + (kind(call.layer) in (Kind.CONVOLUTION, Kind.LINEAR))
    return max(depth.values(), default=0)


@dataclass(frozen=True)
class Table:
    """A table of texts: headings, with those of numbers marked, and rows in sections."""

    title: str
    headings: tuple[tuple[str, bool], ...]
    sections: tuple[tuple[tuple[str, ...], ...], ...]

    @property
    def width(self) -> int:
        """How many characters it takes from side to side, with borders and a space beside each cell."""
        rows = [[h for h, _ in self.headings], *(row for section in self.sections for row in section)]
        columns = zip(*rows, strict=True)
        return 1 + sum(3 + max(len(line) for cell in column for line in cell.split("\n")) for column in columns)

    def parts(self, width: int) -> list[Table]:
        """Tables no wider than a width, if they can, that show some of the columns each, and the first in all."""
        columns = list(range(1, len(self.headings)))
        found: list[Table] = []
        while columns:
            shown = len(columns)
            while shown > 1 and self._only(columns[:shown]).width > width:
                shown -= 1
            found.append(self._only(columns[:shown]))
            columns = columns[shown:]
        return found

    def _only(self, columns: Sequence[int]) -> Table:
        chosen = [0, *columns]
        sections = tuple(tuple(tuple(row[i] for i in chosen) for row in section) for section in self.sections)
        return Table(self.title, tuple(self.headings[i] for i in chosen), sections)


def table(network: Network) -> Table:
    """The table of one network."""
    found = rows(network)
    widths = list(dict.fromkeys(heading for row in found for heading, _ in row.widths))
    odd = any(c.parameters and not macs(c) and connections(c) for c in network.calls)
    headings = [("layer", False), ("type", False), ("window", False), ("output", False), ("depth", True)]
    headings += [(heading, True) for heading, _ in widths] + [("parameters", True), ("MACs", True)]
    headings += [("connections", True)] * odd
    body = [_cells(row, widths, odd) for row in found]
    sections = [[c for c, r in zip(body, found, strict=True) if not r.training_only]]
    sections += [[c for c, r in zip(body, found, strict=True) if r.training_only]]
    blank = [""] * (3 + len(widths))
    kept = [row for row in found if not row.training_only]
    totals = [("total", *blank, str(weighted_depth(network.inference_calls())), *_sums(kept, odd))]
    if len(kept) != len(found):
        totals.append(("in training", *blank, "", *_sums(found, odd)))
    # the depth stands before the widths
    totals = [(t[0], "", "", "", t[4 + len(widths)], *[""] * len(widths), *t[5 + len(widths) :]) for t in totals]
    shapes = ", ".join(f"{i.name} {size(i.shape)}" for i in network.inputs)
    parts = tuple(tuple(section) for section in [*sections, totals] if section)
    return Table(f"{network.name}  ({shapes})", tuple(headings), parts)


def _sums(found: Sequence[Row], odd: bool) -> tuple[str, ...]:
    sums = [sum(r.parameters for r in found), sum(r.macs for r in found), sum(r.connections for r in found)]
    return tuple(f"{n:,}" for n in sums[: 2 + odd])


def _cells(row: Row, widths: Sequence[Heading], odd: bool) -> tuple[str, ...]:
    own = dict(row.widths)
    numbers = [row.parameters, row.macs, row.connections][: 2 + odd]
    name = (
        row.type.partition(" + ")[0] if widths else row.type
    )  # beside widths there is no room for what follows a layer
    name += f" ×{row.count}" if row.count > 1 else ""
    inner = bracketed(row.lines, row.count) if row.block and row.lines else row.window
    label = row.label + (" (training)" if row.training_only and row.label else "")
    return (
        label, name, inner, size(row.output), str(row.depth or ""), *(own.get(w, "") for w in widths),
        *(f"{n:,}" if n else "" for n in numbers),
    )  # fmt: skip


def bracketed(lines: Sequence[str], count: int) -> str:
    """The layers of a block in brackets, with how often it stands there behind them."""
    wide = max(map(len, lines))
    times = f" ×{count}" if count > 1 else ""
    if len(lines) == 1:
        return f"[{lines[0]}]{times}"
    pairs = ["⎡⎤", *["⎢⎥"] * (len(lines) - 2), "⎣⎦"]
    middle = (len(lines) - 1) // 2
    return "\n".join(
        f"{pair[0]}{line:<{wide}}{pair[1]}{times if i == middle else ''}"
        for i, (pair, line) in enumerate(zip(pairs, lines, strict=True))
    )
