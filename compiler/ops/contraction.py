"""The kernel forms of convolution, its gradients and the linear layer: what their `lower` methods are made of.

Kernels work on whole tiles: columns and channels of a result are rounded up to tiles, inputs are padded with zeros to
match, and the surplus is cropped. Schedule rules recognise the parts by block attributes:

- `dlc.part`: "padding" (a padded copy of an input), "weights" (a repacked weight), "convolution" (products and sums of
  a convolution), "merge" (the phases of a strided gradient brought together), "crop" (the surplus dropped);
- `dlc.anchor`: the kind of the kernel, on its main block;
- `dlc.columns`, `dlc.block`: the tile that the extents were rounded up to;
- `dlc.fold`: how many neighbouring columns share one block of channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlc.compiler.ops.lowering import Lowering, Tensor

Pair = tuple[int, int]


def round_up(extent: Any, tile: int) -> Any:
    """The least multiple of `tile` that is not less; a symbolic extent stays symbolic."""
    return extent if tile == 1 else (extent + (tile - 1)) // tile * tile


def padded_image(t: Lowering, x: Tensor, before: Pair, size: Pair, channels: int | None = None) -> Tensor:
    """A copy of [n, h, w, c] of height and width `size`, `before` zeros (rows, columns) in front; x itself where it fits.

    `before` may be negative: the image then begins inside x. `channels` asks for that many, the last ones zero.
    """
    n, height, width, depth = x.shape
    wanted = int(depth) if channels is None else channels
    if before == (0, 0) and size[0] <= int(height) and size[1] <= int(width) and wanted == int(depth):
        return x
    top, left = before

    def element(i: Any, y: Any, column: Any, c: Any) -> Any:
        inside = []
        if top > 0:
            inside.append(y >= top)
        if size[0] > int(height) + top:
            inside.append(y < int(height) + top)
        if left > 0:
            inside.append(column >= left)
        if size[1] > int(width) + left:
            inside.append(column < int(width) + left)
        if wanted > int(depth):
            inside.append(c < int(depth))
        value = x(i, y - top, column - left, c)
        return t.guarded(t.all_of(*inside), value, 0.0) if inside else value

    return t.compute((n, *size, wanted), element, "padded", {"dlc.part": "padding"})


def packed_convolution_weight(t: Lowering, weight: Tensor, channels: int, block: int) -> Tensor:
    """A canonical weight [O, I/groups, kh, kw] as [ceil(O/block), kh, kw, I/groups, block]."""
    _, inputs, height, width = weight.shape

    def element(o: Any, i: Any, j: Any, c: Any, lane: Any) -> Any:
        value = weight(o * block + lane, c, i, j)
        return t.guarded(o * block + lane < channels, value, 0.0) if channels % block else value

    shape = (-(-channels // block), height, width, inputs, block)
    return t.compute(shape, element, "packed", {"dlc.part": "weights"})


def convolution(
    t: Lowering,
    x: Tensor,
    weight: Tensor,
    *,
    channels: int,
    size: Pair,
    before: Pair,
    stride: Pair = (1, 1),
    dilation: Pair = (1, 1),
    groups: int = 1,
    anchor: str = "conv2d",
    fold: int = 0,
) -> Tensor:
    """[n, *size, channels]: the convolution of [n, h, w, c], `before` zeros in front, with a weight.

    The weight is packed, or canonical where the target's kernels want no blocks. `anchor` is empty where the convolution
    is a part of a larger kernel. `fold` says that channels hold so many columns already (0: not decided yet).
    """
    if len(weight.shape) == 5:
        blocks, height, width, inputs, block = (int(e) for e in weight.shape)
    else:
        (blocks, inputs, height, width), block = (int(e) for e in weight.shape), 1
    rows, columns = size
    plain = dilation[1] == 1 and groups == 1 and blocks == 1 and fold == 0
    ways = _folded_columns(columns, channels, block, width, stride[1]) if plain else 1
    if ways > 1:
        folded = _folded_weight(t, weight, channels, ways, stride[1])
        wide = convolution(
            t,
            x,
            folded,
            channels=ways * channels,
            size=(rows, columns // ways),
            before=before,
            stride=(stride[0], ways * stride[1]),
            dilation=(dilation[0], 1),
            anchor=anchor,
            fold=ways,
        )
        shape = (x.shape[0], rows, columns, channels)

        def unfolded(n: Any, y: Any, column: Any, o: Any) -> Any:
            return wide(n, y, column // ways, column % ways * channels + o)

        return t.compute(shape, unfolded, "unfolded", {"dlc.part": "crop"})
    tile = t.columns(columns, block)
    wide, deep = round_up(columns, tile), blocks * block
    reach = (
        (rows - 1) * stride[0] + (height - 1) * dilation[0] + 1,
        (wide - 1) * stride[1] + (width - 1) * dilation[1] + 1,
    )
    image = padded_image(t, x, before, reach)
    i, j, c = (t.reduce_axis(e, name) for e, name in ((height, "kh"), (width, "kw"), (inputs, "ci")))
    attributes = {"dlc.part": "convolution", "dlc.columns": tile, "dlc.block": block, "dlc.fold": max(fold, 1)}
    if anchor:
        attributes["dlc.anchor"] = anchor

    def element(n: Any, y: Any, column: Any, o: Any) -> Any:
        group = o // (channels // groups)
        if deep > channels and groups > 1:
            group = t.maths.minimum(group, groups - 1)
        channel = c if groups == 1 else group * inputs + c
        pixel = image(n, y * stride[0] + i * dilation[0], column * stride[1] + j * dilation[1], channel)
        factor = weight(o // block, i, j, c, o % block) if len(weight.shape) == 5 else weight(o, c, i, j)
        return t.sum(pixel * factor, [i, j, c])

    result = t.compute((x.shape[0], rows, wide, deep), element, "convolution", attributes)
    if fold > 1:
        return result
    return cropped(t, result, (x.shape[0], rows, columns, channels))


def _folded_columns(columns: int, channels: int, block: int, width: int, stride: int) -> int:
    """How many neighbouring columns to put side by side in a block that a few channels would leave mostly empty.

    The kernel grows by a stride for each, with zeros where a column does not reach.
    """

    def products(ways: int) -> float:
        return (width + (ways - 1) * stride) / ways

    fitting = [w for w in range(1, block // channels + 1) if columns % w == 0]
    best = min(fitting or [1], key=products)
    return best if products(best) * 1.2 < products(1) else 1


def _folded_weight(t: Lowering, weight: Tensor, channels: int, ways: int, stride: int) -> Tensor:
    """A packed weight of one block as one whose channels are `channels` for each of `ways` neighbouring columns."""
    _, height, width, inputs, block = (int(e) for e in weight.shape)

    def element(o: Any, i: Any, j: Any, c: Any, lane: Any) -> Any:
        own = j - lane // channels * stride
        reaches = t.all_of(lane < ways * channels, own >= 0, own < width)
        return t.guarded(reaches, weight(0, i, own, c, lane % channels), 0.0)

    shape = (1, height, width + (ways - 1) * stride, inputs, block)
    return t.compute(shape, element, "folded", {"dlc.part": "weights"})


def cropped(t: Lowering, x: Tensor, shape: Sequence[Any], *, always: bool = False) -> Tensor:
    """The first elements along each axis; x itself where it has this shape, unless a block is `always` wanted."""
    if not always and all(
        a is b or (isinstance(b, int) and _number(a) == b) for a, b in zip(x.shape, shape, strict=True)
    ):
        return x
    return t.compute(shape, lambda *i: x(*i), "cropped", {"dlc.part": "crop"})


def _number(extent: Any) -> int | None:
    value = getattr(extent, "value", extent)
    return value if isinstance(value, int) else None


def turned_weight(
    t: Lowering,
    read: Callable[[Any, Any, Any, Any], Any],
    *,
    channels: int,
    upstream_channels: int,
    groups: int,
    kernel: Pair,
    first: Pair,
    step: Pair,
    block: int,
) -> Tensor:
    """The weight of an input gradient as a packed weight [ceil(I/block), mh, mw, O/groups, block] of a convolution.

    `read(o, c, i, j)` is the forward weight (c within its group). Kernel rows `first`, `first + step`, … are taken, last
    one first; `channels` counts the image's channels, `upstream_channels` the result's.
    """
    inside, outside = channels // groups, upstream_channels // groups
    taken = (-(-(kernel[0] - first[0]) // step[0]), -(-(kernel[1] - first[1]) // step[1]))

    def element(c_block: Any, i: Any, j: Any, o: Any, lane: Any) -> Any:
        c = c_block * block + lane
        row = first[0] + (taken[0] - 1 - i) * step[0]
        column = first[1] + (taken[1] - 1 - j) * step[1]
        value = read(o if groups == 1 else c // inside * outside + o, c if groups == 1 else c % inside, row, column)
        return t.guarded(c < channels, value, 0.0) if channels % block else value

    return t.compute((-(-channels // block), *taken, outside, block), element, "turned", {"dlc.part": "weights"})


def packed_linear_weight(
    t: Lowering, read: Callable[[Any, Any], Any], features: int, features_in: int, block: int
) -> Tensor:
    """`read(o, k)` as a packed weight [ceil(features/block), features_in, block]."""

    def element(o: Any, k: Any, lane: Any) -> Any:
        value = read(o * block + lane, k)
        return t.guarded(o * block + lane < features, value, 0.0) if features % block else value

    return t.compute((-(-features // block), features_in, block), element, "packed", {"dlc.part": "weights"})


def product(t: Lowering, x: Tensor, weight: Tensor, features: int) -> Tensor:
    """[n, features]: the rows of x [n, k] times a weight, packed or (where the target wants no blocks) canonical."""
    if len(weight.shape) == 3:
        blocks, features_in, block = (int(e) for e in weight.shape)
    else:
        (blocks, features_in), block = (int(e) for e in weight.shape), 1
    rows = x.shape[0]
    tile = t.columns(_number(rows), block)
    deep, high = blocks * block, round_up(rows, tile)
    if _number(rows) is None or _number(high) != _number(rows):
        whole = x

        def padded(i: Any, k: Any) -> Any:
            return t.guarded(i < rows, whole(i, k), 0.0)

        if tile > 1:
            x = t.compute((high, features_in), padded, "padded", {"dlc.part": "padding"})
    k = t.reduce_axis(features_in, "k")
    attributes = {"dlc.anchor": "linear", "dlc.columns": tile, "dlc.block": block}

    def element(i: Any, o: Any) -> Any:
        factor = weight(o // block, k, o % block) if len(weight.shape) == 3 else weight(o, k)
        return t.sum(x(i, k) * factor, [k])

    result = t.compute((high, deep), element, "product", attributes)
    return cropped(t, result, (rows, features))


def product_by_lanes(t: Lowering, upstream: Tensor, weight: Tensor, features: int) -> Tensor:
    """[n, features_in]: the rows of [n, features] times a packed weight [blocks, features_in, block] as it lies in memory.

    Vectors lie along the features that are summed; their lanes are added up at the end (part "lanes").
    """
    blocks, features_in, block = (int(e) for e in weight.shape)
    rows, lanes = upstream.shape[0], t.vector(block)
    if blocks * block > features:
        whole = upstream

        def padded(i: Any, o: Any) -> Any:
            return t.guarded(o < features, whole(i, o), 0.0)

        upstream = t.compute((rows, blocks * block), padded, "padded", {"dlc.part": "padding"})
    o, v = t.reduce_axis(blocks, "o"), t.reduce_axis(block // lanes, "v")

    def element(i: Any, k: Any, lane: Any) -> Any:
        own = v * lanes + lane
        return t.sum(upstream(i, o * block + own) * weight(o, k, own), [o, v])

    sums = t.compute((rows, features_in, lanes), element, "sums", {"dlc.anchor": "linear_input_gradient"})
    lane = t.reduce_axis(lanes, "lane")
    return t.compute((rows, features_in), lambda i, k: t.sum(sums(i, k, lane), [lane]), "total", {"dlc.part": "lanes"})
