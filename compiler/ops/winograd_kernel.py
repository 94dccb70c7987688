"""The kernel form of Winograd convolutions: what their `lower` methods are made of.

The image goes through strips of rows (`strip`, `down`) to tiles (`across`), the tiles' products with the weights are summed
(`products`), and the sums go back through `up` and `back` to results (`merged`). Schedule rules know the parts by the block
attribute `dlc.part`; the products carry `dlc.anchor` "winograd" and the cut of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from dlc.compiler.ir import DType
from dlc.compiler.ops.contraction import round_up
from dlc.compiler.ops.convolution import Sides
from dlc.compiler.ops.cook_toom import Matrix, transforms
from dlc.compiler.ops.lowering import Lowering, Tensor


def winograd_convolution(
    t: Lowering,
    x: Tensor,
    weight: Tensor,
    channels: int,
    kernel: int,
    tile: int,
    padding: Sides,
    result: tuple[int, int],
) -> Tensor:
    """[n, *result, channels] of an image [n, h, w, c] and a transformed weight [places, blocks, c, block].

    A packed weight [blocks, kernel, kernel, c, block] is transformed inside.
    """
    size, inside = tile + kernel - 1, len(weight.shape) == 5
    height, width, inputs = (int(e) for e in x.shape[1:])
    blocks, block = int(weight.shape[0 if inside else 1]), int(weight.shape[-1])
    tasks = t.tasks(result, inputs, channels, kernel, tile, block, inside)
    top, left = padding[:2]
    chunk = t.vector(inputs)
    high, wide = round_up(-(-result[0] // tile), tasks.rows), round_up(-(-result[1] // tile), tasks.wide)
    images, across = round_up(x.shape[0], tasks.images), wide * tile + kernel - 1
    outer = (inputs // chunk, images, high)
    matrices = transforms(tile, kernel)

    def pixel(r: Any, c: Any, n: Any, y: Any, column: Any, lane: Any) -> Any:
        row, place = y * tile + r - top, column - left
        inside = []
        if top > 0:
            inside.append(row >= 0)
        if high * tile + kernel - 1 - top > height:
            inside.append(row < height)
        if left > 0:
            inside.append(place >= 0)
        if across - left > width:
            inside.append(place < width)
        if tasks.images > 1:
            inside.append(n < x.shape[0])
        value = x(n, row, place, c * chunk + lane)
        return t.guarded(t.all_of(*inside), value, 0.0) if inside else value

    strip = t.compute((size, *outer, across, chunk), pixel, "strip", {"dlc.part": "strip"})
    down = transformed(t, matrices.inputs, 0, (size, *outer, across, chunk), lambda r, i: strip(r, *i), "down")
    tiles = transformed(
        t,
        matrices.inputs,
        1,
        (size, size, *outer, wide, chunk),
        lambda s, i: down(*i[:4], i[4] * tile + s, i[5]),
        "across",
    )
    attributes = {"dlc.anchor": "winograd", "dlc.block": block, "dlc.tile": tile, **tasks.attributes()}
    back = (blocks, images, high, wide, block)
    if inside:
        products = _sums_over_taps(t, tiles, weight, matrices.filter, (size, size, *back), tasks.depth, attributes)
    else:
        co, ci = t.reduce_axis(inputs // chunk, "co"), t.reduce_axis(chunk, "ci")

        def product(i: Any, j: Any, o: Any, n: Any, y: Any, column: Any, lane: Any) -> Any:
            return t.sum(tiles(i, j, co, n, y, column, ci) * weight(i * size + j, o, co * chunk + ci, lane), [co, ci])

        products = t.compute((size, size, *back), product, "products", attributes)
    up = transformed(t, matrices.outputs, 0, (tile, size, *back), lambda r, i: products(r, *i), "up")
    results = transformed(t, matrices.outputs, 1, (tile, tile, *back), lambda s, i: up(i[0], s, *i[1:]), "back")

    def merged(n: Any, row: Any, column: Any, o: Any) -> Any:
        return results(row % tile, column % tile, o // block, n, row // tile, column // tile, o % block)

    return t.compute((x.shape[0], *result, channels), merged, "merged", {"dlc.part": "merge"})


def _sums_over_taps(
    t: Lowering,
    tiles: Tensor,
    taps: Tensor,
    matrix: Matrix,
    shape: Sequence[Any],
    depth: int,
    attributes: dict[str, Any],
) -> Tensor:
    """The sums of products of `shape` [row, column, block, n, y, x, lane] over a packed weight, transformed on the way.

    One row of places of `depth` input channels is transformed at a time, so that it stays in the level 1 cache: the row that is
    wanted of the transform down the columns (`filter_down`), then the one across (`filter`). The products of these channels are
    summed in registers (`products`) and added up (`sums`).
    """
    size, (blocks, kernel, _, inputs, block) = len(matrix), (int(e) for e in taps.shape)
    chunk = int(tiles.shape[-1])
    rest = (blocks, inputs, block)

    def down(i: Any, s: Any, o: Any, c: Any, lane: Any) -> Any:
        factors = [[t.maths.constant(float(row[r]), DType(str(taps.dtype))) for row in matrix] for r in range(kernel)]
        terms = [_chosen(t, i, factors[r]) * taps(o, r, s, c, lane) for r in range(kernel)]
        return sum(terms[1:], terms[0])

    row = t.compute((size, kernel, *rest), down, "filter_down", {"dlc.part": "filter_down"})
    weight = transformed(t, matrix, 1, (size, size, *rest), lambda s, i: row(i[0], s, *i[1:]), "filter")
    co, ci = t.reduce_axis(depth // chunk, "co"), t.reduce_axis(chunk, "ci")

    def product(q: Any, i: Any, j: Any, o: Any, n: Any, y: Any, column: Any, lane: Any) -> Any:
        own = q * (depth // chunk) + co
        return t.sum(tiles(i, j, own, n, y, column, ci) * weight(i, j, o, own * chunk + ci, lane), [co, ci])

    products = t.compute((inputs // depth, *shape), product, "products", attributes)
    q = t.reduce_axis(inputs // depth, "q")
    return t.compute(shape, lambda *i: t.sum(products(q, *i), [q]), "sums", {"dlc.part": "sums"})


def transformed_weights(
    t: Lowering,
    read: Callable[[Any, Any, Any, Any], Any],
    channels: int,
    inputs: int,
    kernel: int,
    tile: int,
    block: int,
) -> Tensor:
    """[(tile + kernel - 1)², ceil(channels/block), inputs, block] of a weight `read(o, i, row, column)`."""
    size, blocks = tile + kernel - 1, -(-channels // block)
    matrix = transforms(tile, kernel).filter

    def tap(row: Any, column: Any, o: Any, i: Any, lane: Any) -> Any:
        own = o * block + lane
        value = read(own, i, row, column)
        return t.guarded(own < channels, value, 0.0) if channels % block else value

    rest = (blocks, inputs, block)
    taps = t.compute((kernel, kernel, *rest), tap, "taps", {"dlc.part": "strip"})
    down = transformed(t, matrix, 0, (size, kernel, *rest), lambda r, i: taps(r, *i), "down")
    across = transformed(t, matrix, 1, (size, size, *rest), lambda s, i: down(i[0], s, *i[1:]), "across")
    attributes = {"dlc.anchor": "winograd_weights"}
    return t.compute((size * size, *rest), lambda e, *i: across(e // size, e % size, *i), "transformed", attributes)


def transformed(
    t: Lowering,
    matrix: Matrix,
    axis: int,
    shape: Sequence[Any],
    read: Callable[[int, Sequence[Any]], Any],
    name: str,
) -> Tensor:
    """result[…, i, …] = Σ_k matrix[i, k] · read(k, the other indices), where i is the index along `axis` of the result.

    Rows that differ only in the signs of their odd elements share two sums, of the even and of the odd elements (a tensor
    of its own): one row is their sum, the other their difference.
    """
    pairs = _pairs(matrix)
    halves = [
        tuple(c if k % 2 == parity else Fraction(0) for k, c in enumerate(matrix[i]))
        for i, _ in pairs
        for parity in (0, 1)
    ]
    shared = None
    if pairs:
        shape_of_halves = [len(halves), *(e for a, e in enumerate(shape) if a != axis)]

        def half(q: Any, *i: Any) -> Any:
            return _chosen(t, q, [_combination(row, lambda k: read(k, i)) for row in halves])

        shared = t.compute(shape_of_halves, half, name + "_halves", {"dlc.part": name + "_halves"})

    def element(*i: Any) -> Any:
        rest = [*i[:axis], *i[axis + 1 :]]
        choices = []
        for number, row in enumerate(matrix):
            pair = next((q for q, both in enumerate(pairs) if number in both), None)
            if shared is None or pair is None:
                choices.append(_combination(row, lambda k: read(k, rest)))
                continue
            even, odd = shared(2 * pair, *rest), shared(2 * pair + 1, *rest)
            choices.append(even + odd if number == pairs[pair][0] else even - odd)
        return _chosen(t, i[axis], choices)

    return t.compute(shape, element, name, {"dlc.part": name})


def _pairs(matrix: Matrix) -> list[tuple[int, int]]:
    """Rows, two by two, that differ only in the signs of their odd elements, where sharing saves something."""
    found: list[tuple[int, int]] = []
    for i, row in enumerate(matrix):
        turned = tuple(c if k % 2 == 0 else -c for k, c in enumerate(row))
        if turned != row and sum(c != 0 for c in row) > 2:
            found += [(i, j) for j in range(i + 1, len(matrix)) if matrix[j] == turned]
    return found


def _combination(row: Sequence[Fraction], read: Callable[[int], Any]) -> Any:
    """Σ row[k] · read(k), terms with a factor of one first."""
    total = None
    for k, factor in sorted(enumerate(row), key=lambda term: (term[1] != 1, abs(term[1]) != 1)):
        if factor == 0:
            continue
        term = read(k)
        if total is None:
            total = term * float(factor) if factor != 1 else term
        elif factor == -1:
            total = total - term
        else:
            total = total + (term * float(factor) if factor != 1 else term)
    return total


def _chosen(t: Lowering, index: Any, choices: Sequence[Any]) -> Any:
    """The choice at an index; loops over the index are unrolled, so nothing is chosen at run time."""
    result = choices[-1]
    for k in range(len(choices) - 2, -1, -1):
        result = t.maths.where(t.maths.equal(index, k), choices[k], result)
    return result
