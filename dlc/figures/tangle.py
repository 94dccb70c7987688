"""Places a graph that is no chain of branches in layers: each node below all that it takes from (Sugiyama et al. 1981)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dlc.figures.shapes import Path, Piece, Shape

SPACE, LEVEL = 18.0, 30.0  # between neighbours, between layers
SWEEPS = 8


def place(pieces: Sequence[Piece], edges: Sequence[tuple[int, int]], dashed: bool = False) -> Piece:
    """Pieces by their number, in topological order, and edges between them; -1 is the entry, -2 the exit."""
    level = [0] * len(pieces)
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        if source >= 0 and target >= 0:
            level[target] = max(level[target], level[source] + 1)
    bottom = max(level) + 1
    tops = {-1: -1, -2: bottom} | dict(enumerate(level))
    layers: list[list[int]] = [[] for _ in range(bottom)]
    for number, at in enumerate(level):
        layers[at].append(number)
    width = {n: (p.left, p.right) for n, p in enumerate(pieces)}
    routes: list[list[int]] = []  # of each edge: source, a passage in each layer between, target
    above: dict[int, list[int]] = {n: [] for n in width}
    below: dict[int, list[int]] = {n: [] for n in width}
    for source, target in edges:
        route = [source]
        for at in range(tops[source] + 1, tops[target]):
            passage = len(width)
            width[passage] = (5.0, 5.0)
            above[passage], below[passage] = [], []
            layers[at].append(passage)
            route.append(passage)
        route.append(target)
        for a, b in pairwise(route):
            if a >= 0 and b >= 0:
                below[a].append(b)
                above[b].append(a)
        routes.append(route)
    x = _positions(layers, above, below, width)
    heights = [max((pieces[n].height for n in layer if n < len(pieces)), default=0.0) for layer in layers]
    y, starts = LEVEL, []
    for height in heights:
        starts.append(y)
        y += height + LEVEL
    shapes: list[Shape] = []
    for number, piece in enumerate(pieces):
        shapes += piece.at(x[number], starts[level[number]])
    at_layer = {n: i for i, layer in enumerate(layers) for n in layer}
    for route in routes:
        shapes.append(_line(route, pieces, x, starts, heights, at_layer, y, dashed))
    left = max(-(x[n] - width[n][0]) for n in width)
    right = max(x[n] + width[n][1] for n in width)
    return Piece(max(left, 0.0), max(right, 0.0), y, tuple(shapes))


def _positions(
    layers: list[list[int]],
    above: dict[int, list[int]],
    below: dict[int, list[int]],
    width: dict[int, tuple[float, float]],
) -> dict[int, float]:
    """Where each node of each layer stands: near its neighbours in the layers above and below, in an order found so."""
    x: dict[int, float] = {}
    for layer in layers:
        _spread(layer, {n: float(i) * 50 for i, n in enumerate(layer)}, width, x)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        near = above if down else below
        for layer in layers if down else reversed(layers):
            wanted = {n: sum(x[m] for m in near[n]) / len(near[n]) if near[n] else x[n] for n in layer}
            layer.sort(key=lambda n: (wanted[n], n))
            _spread(layer, wanted, width, x)
    middle = (min(x[n] - width[n][0] for n in x) + max(x[n] + width[n][1] for n in x)) / 2
    return {n: value - middle for n, value in x.items()}


def _spread(
    layer: list[int], wanted: dict[int, float], width: dict[int, tuple[float, float]], x: dict[int, float]
) -> None:
    """Places a layer's nodes in order, none over its neighbour, with the mean where it is wanted."""
    right = float("-inf")
    for n in layer:
        x[n] = max(wanted[n], right + width[n][0])
        right = x[n] + width[n][1] + SPACE
    if layer:
        shift = sum(wanted[n] - x[n] for n in layer) / len(layer)
        for n in layer:
            x[n] += shift


def _line(
    route: list[int], pieces: Sequence[Piece], x: dict[int, float], starts: list[float], heights: list[float],
    at_layer: dict[int, int], bottom: float, dashed: bool,
) -> Path:  # fmt: skip
    """The line of one edge: straight down through its passages, across between the layers."""
    source, *passages, target = route
    points = [(0.0, 0.0)] if source == -1 else [(x[source], starts[at_layer[source]] + pieces[source].height)]
    for n in [*passages, target]:
        to_x = x.get(n, 0.0)
        to_y = starts[at_layer[n]] if n >= 0 else bottom
        low = points[-1][1] if n < 0 or at_layer[n] == 0 else starts[at_layer[n] - 1] + heights[at_layer[n] - 1]
        bend = max(points[-1][1], low) + LEVEL / 2 if to_x != points[-1][0] else to_y
        if n < 0:
            bend = bottom - LEVEL / 2
        if bend < to_y:
            points += [(points[-1][0], bend), (to_x, bend)]
        points.append((to_x, to_y if n == target else to_y + heights[at_layer[n]]))
    return Path(tuple(points), target >= 0, dashed)
