"""The picture of a network as an SVG file: what `dlc show --graph` writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dlc.compiler.errors import DlcError
from dlc.compiler.network import Network
from dlc.figures.page import picture, picture_of
from dlc.figures.structure import Group, Part, structure
from dlc.figures.svg import write
from dlc.runtime.atomic import replace_file
from dlc.runtime.names import suggest


def graph(network: Network, *, depth: int | None = None, block: str | None = None) -> str:
    """A network as an SVG document, or the inside of one block of it.

    `depth` says how many levels of blocks are open: 0 for none; without, as many as stay readable. `block` is the name of
    a block ("Inception": its first call is shown) or of a call ("inception4e", "layer2.0"). Raises DlcError (E0617) where
    there is none of that name.
    """
    if block is None:
        return write(picture(network, depth))
    groups = [group for group in _groups(structure(network)) if group.name or group.block]
    found = next((g for g in groups if g.name == block), None) or next((g for g in groups if g.block == block), None)
    if found is None:
        names = list(dict.fromkeys([g.block for g in groups if g.block] + [g.name for g in groups]))
        help = suggest(block, names) or "all its layers stand alone"
        raise DlcError.of("E0617", f"{network.name} has no block {block!r}", help=help)
    return write(picture_of(network, found, depth))


def write_graph(path: Path, network: Network, *, depth: int | None = None, block: str | None = None) -> None:
    """Writes the picture to a file. Raises DlcError as `graph`, RuntimeFault (R0110) where it cannot be written."""
    text = graph(network, depth=depth, block=block)
    with replace_file(path) as file:
        file.write(text.encode())


def _groups(parts: Sequence[Part]) -> Iterator[Group]:
    for part in parts:
        if isinstance(part, Group):
            yield part
            yield from _groups(part.parts)
