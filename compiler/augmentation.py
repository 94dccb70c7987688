"""The compiled part of augmentation: a program that moves the pixels of a batch of images and normalises them."""

from __future__ import annotations

from dlc.compiler.codegen import Compiled, compile_graph
from dlc.compiler.codegen.cache import PLAIN, BuildOptions
from dlc.compiler.codegen.target import CpuTarget
from dlc.compiler.ir import DType, Graph, Input, TensorType, source
from dlc.compiler.ops.warp import warp_images
from dlc.runtime.data.affine import WarpShape

INPUTS = ("images", "samples", "places", "scale", "offset", "noise", "rows", "columns")
"""The program's inputs, the last three only where a field moves pixels."""


def build_warp(shape: WarpShape) -> Graph:
    """The graph of `runtime.data.affine.warp` for batches of one shape; its output is `images`."""
    channels, target = shape.channels, shape.target
    factor = TensorType((channels, *target) if shape.per_pixel else (channels, 1, 1))
    types = [TensorType((shape.count, channels, *shape.source), DType(shape.dtype))]
    types += [TensorType((shape.batch,), DType.INT32), TensorType((shape.batch, 6)), factor, factor]
    if shape.rank is not None:
        a, b = shape.rank
        types += [TensorType((shape.batch, 2, a, b)), TensorType((target[0], a)), TensorType((target[1], b))]
    inputs = tuple(source(Input(name, type_)) for name, type_ in zip(INPUTS, types, strict=False))
    images, samples, places, scale, offset, *field = inputs
    return Graph("warp", inputs, {"images": warp_images(images, samples, places, scale, offset, target, *field)})


def compile_warp(shape: WarpShape, target: CpuTarget, options: BuildOptions = PLAIN) -> Compiled:
    """Machine code and program for batches of one shape."""
    return compile_graph(build_warp(shape), target, batch=shape.batch, options=options)
