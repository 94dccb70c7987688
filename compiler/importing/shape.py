"""Layers that move, cut or repeat elements, from ONNX."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np
import onnx

from dlc.compiler.importing.pooling import as_features
from dlc.compiler.importing.values import CHANNELS_LAST, Flow, Item, Known, Reader, Refusal, Site
from dlc.compiler.importing.windows import plain_pair, plain_sides
from dlc.compiler.layers.normalization import GroupNorm
from dlc.compiler.layers.pooling import MaxPool
from dlc.compiler.layers.shape import AXES, Axis, Concat, Crop, Flatten, Pad, Reshape, Slice, Upsample
from dlc.compiler.layers.shuffle import ChannelShuffle

NAMES: dict[int, Axis] = {place + 1: name for name, place in AXES.items()}  # type: ignore[misc]  # the keys are axes
"""The language's name of an axis of ONNX."""


def concat(site: Site) -> Flow:
    """Concat along channels, height or width."""
    flows = [site.flow(i) for i in range(len(site.inputs))]
    if len(flows) == 1:
        return flows[0]
    axis = _axis(site, site.attribute("axis", 1))
    return site.layer(Concat(axis), *flows)


def flatten(site: Site) -> Flow:
    """Flatten from axis 1."""
    x = site.x
    site.insist(site.attribute("axis", 1) % (len(x.shape) + 1) == 1, "it does not keep the batch")
    return _features(site, x)


def reshape(site: Site) -> Flow:
    """Reshape that keeps the batch: to features, to an image, or on the way to `channel_shuffle`."""
    x, to = site.x, _target(site)
    if to == x.shape and x.layer is not None:
        return x
    if x.op == "Transpose" and x.facts["perm"] == (0, 2, 1, 3, 4) and x.inputs[0].op == "Reshape":
        whole = x.inputs[0].inputs[0]
        if to == whole.shape:
            return site.layer(lambda: ChannelShuffle(x.inputs[0].shape[0]), whole)
    if x.op == "Normalized groups" and to == x.inputs[0].shape:
        return site.layer(lambda: GroupNorm(x.shape[0], x.facts["eps"], False), *x.inputs)
    if len(to) == 1:
        return _features(site, x)
    if len(to) == 3:
        return site.layer(lambda: Reshape(to), x)
    return site.part("Groups" if len(to) == 2 else "Reshape", to, x)


def squeeze(site: Site) -> Flow:
    """Squeeze of the axes behind the channels."""
    x, rank = site.x, len(site.x.shape) + 1
    ones = tuple(i for i, n in enumerate(x.shape, 1) if n == 1)
    axes = {a % rank for a in site.integers("axes", 1, ones)}
    site.insist(0 not in axes, "it drops the batch")
    left = tuple(n for i, n in enumerate(x.shape, 1) if i not in axes)
    site.insist(len(left) == 1, f"it leaves {list(left)}, neither features nor an image")
    return _features(site, x)


def unsqueeze(site: Site) -> Flow:
    """Unsqueeze of features [C] to an image [C, 1, 1]."""
    x, axes = site.x, site.integers("axes", 1)
    rank = len(x.shape) + 1 + len(axes)
    places = sorted(a % rank for a in axes)
    if places == [2, 3] and len(x.shape) == 1:
        return site.layer(Reshape((*x.shape, 1, 1)), x)
    shape = list(x.shape)
    for place in places:
        site.insist(place > 0, "it adds an axis before the batch")
        shape.insert(place - 1, 1)
    return site.part("Unsqueeze", tuple(shape), x)


def transpose(site: Site) -> Flow:
    """Transpose to channels last and back, and on the way to `channel_shuffle`."""
    x = site.x
    perm = tuple(site.attribute("perm", tuple(reversed(range(len(x.shape) + 1)))))
    site.insist(perm[0] == 0, "it moves the batch")
    if perm == tuple(range(len(perm))):
        return x
    if x.op == CHANNELS_LAST and perm == (0, 3, 1, 2):
        return x.inputs[0]
    shape = tuple(x.shape[p - 1] for p in perm[1:])
    if perm == (0, 2, 3, 1):
        return site.part(CHANNELS_LAST, shape, x)
    if not x.inputs and perm == (0, 3, 1, 2):
        raise Refusal("its input has the channels last; images come channels first here")
    return site.part("Transpose", shape, x, perm=perm)


def slice_(site: Site) -> Flow:
    """Slice of channels, height and width; a crop where it is one."""
    x = site.x
    starts, stops = site.integers("starts", 1), site.integers("ends", 2)
    axes = site.integers("axes", 3, tuple(range(len(starts))))
    steps = site.integers("steps", 4, (1,) * len(starts))
    site.insist(min(steps) > 0, "it runs backwards")
    parts: dict[int, tuple[int, int, int]] = {}
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        place = axis % (len(x.shape) + 1)
        site.insist(place > 0 or (start == 0 and stop >= 2**31 - 1 and step == 1), "it takes a part of the batch")
        if place > 0:
            first, last, _ = slice(start, stop).indices(x.shape[place - 1])
            if (first, last, step) != (0, x.shape[place - 1], 1):
                parts[place] = first, last, step
    return _image_part(site, parts) or _cut(site, x, parts)


def _image_part(site: Site, parts: dict[int, tuple[int, int, int]]) -> Flow | None:
    """A crop, or every n-th pixel, where both height and width are cut; None otherwise."""
    if set(parts) != {2, 3}:
        return None
    (_, height, width), (rows, columns) = site.x.shape, (parts[2], parts[3])
    if rows[2] == columns[2] == 1:
        size = rows[1] - rows[0], columns[1] - columns[0]
        places = {(0, 0): "top_left", ((height - size[0]) // 2, (width - size[1]) // 2): "center"}
        place = places.get((rows[0], columns[0]))
        return site.layer(Crop(plain_pair(size), place), site.x) if place else None  # type: ignore[arg-type]  # a place
    if rows[:2] == (0, height) and columns[:2] == (0, width):
        return site.layer(MaxPool(1, plain_pair((rows[2], columns[2]))), site.x)
    return None


def _cut(site: Site, x: Flow, parts: dict[int, tuple[int, int, int]]) -> Flow:
    for place, (start, stop, step) in sorted(parts.items()):
        cut = Slice(start, stop, _axis(site, place), step)
        x = site.layer(cut, x)
    return x


def split(site: Site) -> tuple[Flow, ...]:
    """Split: a slice for each output."""
    x = site.x
    place = site.attribute("axis", 0) % (len(x.shape) + 1)
    site.insist(place > 0, "it splits the batch")
    whole, count = x.shape[place - 1], len(site.node.output)
    each = -(-whole // count)
    even = tuple(min(each, whole - i * each) for i in range(count))
    bounds = np.cumsum([0, *site.integers("split", 1, even)]).tolist()
    return tuple(_cut(site, x, {place: (a, b, 1)}) for a, b in pairwise(bounds))


def pad(site: Site) -> Flow:
    """Pad with a fixed value, of images."""
    x = site.x
    mode = site.attribute("mode", "constant")
    site.insist(mode == "constant", f"its mode is {mode}")
    sizes = site.integers("pads", 1)
    value = float(site.known(2, "value").array.item()) if site.has(2) else float(site.attribute("value", 0.0))
    if site.has(3):
        axes = [a % 4 for a in site.integers("axes", 3)]
        full = [0] * 8
        for n, axis in enumerate(axes):
            full[axis], full[axis + 4] = sizes[n], sizes[n + len(axes)]
        sizes = tuple(full)
    if not any(sizes):
        return x
    site.insist(len(sizes) == 8 and not sizes[0] and not sizes[4], f"its sizes {list(sizes)} are not those of an image")
    site.insist(min(sizes) >= 0, "it cuts borders off")
    before, top, left, behind, bottom, right = *sizes[1:4], *sizes[5:]
    channels = behind if not before else (before, behind)
    return site.layer(lambda: Pad(plain_sides((top, left, bottom, right)), channels, value), x)


def resize(site: Site) -> Flow:
    """Resize and Upsample by whole factors: nearest as repeated pixels, linear at half-pixel coordinates."""
    x = site.x
    mode = site.attribute("mode", "nearest")
    factors = _factors(site)
    site.insist(all(f == int(f) >= 1 for f in factors), f"its factors are {factors}, not whole")
    factor = plain_pair(tuple(int(f) for f in factors))
    coordinates = site.attribute("coordinate_transformation_mode", "half_pixel")
    if site.opset < 11:
        coordinates = "asymmetric"
    if mode == "nearest":
        rounding = site.attribute("nearest_mode", "round_prefer_floor" if site.opset >= 11 else "floor")
        centred = coordinates in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round")
        same = (coordinates == "asymmetric" and rounding == "floor") or centred
        site.insist(same, f"its coordinates are {coordinates}, {rounding}")
        return site.layer(lambda: Upsample(factor), x)
    site.insist(mode in ("linear", "bilinear"), f"its mode is {mode}")
    site.insist(coordinates in ("half_pixel", "pytorch_half_pixel"), f"its coordinates are {coordinates}")
    return site.layer(lambda: Upsample(factor, "bilinear"), x)


def _factors(site: Site) -> tuple[float, float]:
    """How much larger height and width become."""
    if "scales" in site.attributes:
        scales = list(site.attributes["scales"])
    else:
        at = 1 if site.opset < 11 else 2
        scales = site.known(at, "scales").array.tolist() if site.has(at) else []
    if not scales:
        sizes = site.integers("sizes", 3)
        scales = [1.0, *(new / old for new, old in zip(sizes[1:], site.x.shape, strict=True))]
    site.insist(len(scales) == 4 and scales[:2] == [1, 1], f"its scales {scales} are not those of an image")
    return float(scales[2]), float(scales[3])


def identity(site: Site) -> Item:
    """Identity."""
    return site.x


def cast(site: Site) -> Item:
    """Cast between floats, which all are single here."""
    to = site.attribute("to", onnx.TensorProto.FLOAT)
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    site.insist(to in floats, f"it makes {onnx.TensorProto.DataType.Name(to)} of its input")
    return site.x


def _features(site: Site, x: Flow) -> Flow:
    """What flattening gives: [C, H, W] -> [C*H*W]."""
    if len(x.shape) == 1:
        return x
    if x.layer is None and x.inputs:
        raise Refusal("it flattens what is no image")
    return as_features(site, x) or site.layer(Flatten(), x)


def _target(site: Site) -> tuple[int, ...]:
    """The shape that a tensor gets, without the batch. Raises Refusal where the batch does not stay what it is."""
    wanted = site.known(1, "shape") if site.has(1) else Known(np.array(site.attribute("shape", ()), np.int64))
    targets = []
    for batch, array in zip(
        site.batch, (wanted.array, wanted.array if wanted.other is None else wanted.other), strict=True
    ):
        have = (batch, *site.x.shape)
        sizes = [have[i] if n == 0 and i < len(have) else int(n) for i, n in enumerate(array.reshape(-1))]
        rest = prod(n for n in sizes if n != -1)
        targets.append([prod(have) // rest if n == -1 else n for n in sizes])
        site.insist(prod(targets[-1]) == prod(have), f"{list(have)} does not fit into {sizes}")
        site.insist(targets[-1][:1] == [batch], f"it makes {targets[-1]} of {list(have)}: the batch does not stay")
    site.insist(targets[0][1:] == targets[1][1:], "its shape depends on the batch")
    return tuple(targets[0][1:])


def _axis(site: Site, axis: int) -> Axis:
    place = axis % (len(site.x.shape) + 1)
    if place not in NAMES:
        raise Refusal("its axis is the batch")
    return NAMES[place]


OPERATORS: dict[str, Reader] = {
    "Cast": cast,
    "Concat": concat,
    "Flatten": flatten,
    "Identity": identity,
    "Pad": pad,
    "Reshape": reshape,
    "Resize": resize,
    "Slice": slice_,
    "Split": split,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Upsample": resize,
}
"""The operators of this family by their names."""
