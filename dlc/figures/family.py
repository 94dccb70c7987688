"""One table for the models of a family: a column each, a row for each size that the image has on its way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dlc.compiler.network import Network
from dlc.figures.notation import size
from dlc.figures.table import Row, Table, bracketed, rows, weighted_depth

Stage = tuple[str, tuple[Row, ...]]
"""A size ("56×56") and the rows whose output has it."""


def families(networks: Sequence[Network]) -> list[list[Network]]:
    """Networks that one table can hold together: those with the same inputs and the same sizes on the way.

    A network of blocks with branches stays alone, because the widths of the branches need the columns.
    """
    found: dict[object, list[Network]] = {}
    for network in networks:
        own = [row for row in rows(network) if not row.training_only]
        alone = any(row.widths for row in own)
        sizes = tuple(place for place, _ in stages(own))
        key = (tuple(i.shape for i in network.inputs), sizes, id(network) if alone else 0)
        found.setdefault(key, []).append(network)
    return list(found.values())


def stages(found: Sequence[Row]) -> list[Stage]:
    """Rows by the size of their output."""
    result: list[Stage] = []
    for row in found:
        place = size(row.output[1:]) if len(row.output) == 3 else "1×1"
        if result and result[-1][0] == place:
            result[-1] = (place, (*result[-1][1], row))
        else:
            result.append((place, (row,)))
    return result


def family_tables(networks: Sequence[Network], width: int) -> Iterator[Table]:
    """The tables of a family, no wider than a width if they can: as many columns each as fit."""
    found = [[row for row in rows(network) if not row.training_only] for network in networks]
    convolutions = [row for own in found for row in own if row.window and row.macs]
    norms = len({row.norms for row in convolutions}) > 1
    for parts in range(1, len(networks) + 1):
        size = -(-len(networks) // parts)
        pieces = [slice(start, start + size) for start in range(0, len(networks), size)]
        tables = [family_table(networks[piece], found[piece], norms) for piece in pieces]
        if max(table.width for table in tables) <= width or size == 1:
            yield from tables
            return


def family_table(networks: Sequence[Network], found: Sequence[Sequence[Row]], norms: bool) -> Table:
    """One table for networks with these rows; `norms`: their convolutions differ in what normalises them."""
    columns = [stages(own) for own in found]
    body: list[tuple[str, ...]] = []
    for parts in zip(*columns, strict=True):
        labels = dict.fromkeys(row.label for _, own in parts for row in own if row.label)
        cells = ["\n".join(_cell(row, norms) for row in own) for _, own in parts]
        body.append((", ".join(labels), parts[0][0], *cells))
    totals = [
        ("weight layers", "", *(str(weighted_depth(n.inference_calls())) for n in networks)),
        ("parameters", "", *(f"{sum(r.parameters for r in own):,}" for own in found)),
        ("MACs", "", *(f"{sum(r.macs for r in own):,}" for own in found)),
    ]
    shapes = ", ".join(f"{i.name} {size(i.shape)}" for i in networks[0].inputs)
    headings = (("layer", False), ("output", False), *((n.name, False) for n in networks))
    return Table(f"{len(networks)} models  ({shapes})", headings, (*((row,) for row in body), tuple(totals)))


def _cell(row: Row, norms: bool) -> str:
    if row.block and row.lines:
        return bracketed(row.lines, row.count)
    text = row.lines[0] if row.lines else row.type
    step = row.window.partition("/")[2]
    if row.macs and step not in ("", "1"):
        text += f", /{step}"
    return text + (" + " + " + ".join(row.norms) if norms and row.norms else "")
