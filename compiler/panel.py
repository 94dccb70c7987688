"""Panels: how many pixels a kernel over paired factors computes at once, and how they are cut into the processor's tiles.

A panel is `high` rows of `wide` pixels of a result, beside `CHANNELS` output channels. A tile is up to `MOST_ROWS` pixels of
one row: what a matrix unit takes at once. Kernels without one cut a panel in their own way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

CHANNELS = 32
"""Output channels beside a panel: two tiles of 16."""

DEPTH = 32
"""Factors of one output that lie side by side: 16 pairs."""

MOST_ROWS = 16
MOST_TILES = 6


@dataclass(frozen=True)
class Panel:
    """`high` rows of `wide` pixels; `tiles` are the numbers of pixels of the tiles of one row."""

    high: int
    wide: int
    tiles: tuple[int, ...]

    @property
    def pixels(self) -> int:
        """All pixels of the panel."""
        return self.high * self.wide

    @property
    def all_tiles(self) -> tuple[int, ...]:
        """The pixels of every tile, row by row."""
        return self.tiles * self.high

    @property
    def cycles(self) -> float:
        """Rough cycles for `DEPTH` factors: the products, and the way of the weights from the level 2 cache."""
        count = len(self.all_tiles)
        again = 1 if count < 3 else 2  # tiles of pixels are read again for the second half of the channels
        return max(2 * self.pixels, 8 * (2 + again * count)) + 50.0


def row_of(wide: int) -> Panel:
    """One row of so many pixels, cut evenly."""
    count = -(-wide // MOST_ROWS)
    return Panel(1, wide, tuple(wide // count + (t < wide % count) for t in range(count)))


def panel_of(high: int, wide: int) -> Panel:
    """So many rows of so many pixels, each cut evenly."""
    return Panel(high, wide, row_of(wide).tiles)


@cache
def choose(rows: int, columns: int) -> Panel:
    """The panel with the least time for a result of so many rows and columns."""
    panels = list(_candidates(rows, columns))
    return min(panels, key=lambda p: -(-rows // p.high) * -(-columns // p.wide) * (p.cycles + 4.0))


@cache
def choose_whole_rows(rows: int, columns: int) -> Panel | None:
    """The same where all pixels lie in one row: of some whole rows that divide them; None where a row is too wide."""
    counts = [m for m in range(1, rows + 1) if rows % m == 0 and m * columns <= MOST_ROWS * MOST_TILES]
    panels = [p for p in (row_of(m * columns) for m in counts) if has_registers(p)]
    return min(panels, key=lambda p: rows * columns // p.wide * (p.cycles + 4.0), default=None)


def _candidates(rows: int, columns: int) -> Iterator[Panel]:
    for parts in range(1, columns + 1):
        wide = -(-columns // parts)
        if wide > MOST_ROWS * MOST_TILES:
            continue
        flat = row_of(wide)
        if has_registers(flat):
            yield flat
        if wide <= MOST_ROWS and parts == 1:
            yield from (Panel(high, wide, (wide,)) for high in range(2, min(rows, MOST_TILES) + 1))


def has_registers(panel: Panel) -> bool:
    """Whether sums, weights and pixels fit in eight tiles; pixels' tiles of two sizes need one for each."""
    return len(panel.all_tiles) <= MOST_TILES - (len(set(panel.tiles)) > 1)
