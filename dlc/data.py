"""The data of a recipe: read, checked against network and augmentation, and the compiled part of making batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dlc.compiler.codegen.cache import PLAIN, BuildOptions
from dlc.compiler.errors import DlcError
from dlc.compiler.recipe import Recipe
from dlc.runtime.arrays import aligned_copy
from dlc.runtime.data.affine import Field, Warp, WarpShape
from dlc.runtime.data.augment import MakeWarp, size_after
from dlc.runtime.data.prepare import Prepared, prepare
from dlc.runtime.data.resize import Resize
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.executor import Executor


def load_data(recipe: Recipe, directory: Path | None) -> Prepared:
    """The recipe's samples, split and prepared.

    Raises DlcError where they do not fit the network, RuntimeFault where an augmentation does not suit them.
    """
    data = recipe.data
    size = None if data.resize is None else Resize(*data.resize, data.fit)
    dataset = data.source.load(directory, size)
    height, width = data.resize or dataset.train.images.shape[2:]
    window = size_after(data.augment, (height, width))
    for transform in data.augment:
        transform.fitted(dataset.train.images[:1])
    larger = None
    if data.dense is not None and data.dense.size is not None:
        larger = data.source.load(directory, Resize(*data.dense.pair, data.fit))
    prepared = prepare(
        dataset,
        validate=data.validate,
        size=size,
        normalize=data.normalize,
        window=window,
        views=data.views,
        dense=data.dense,
        larger=larger,
    )
    (image,) = recipe.network.inputs[:1]
    shape = (prepared.preprocessing.channels, *prepared.preprocessing.window)
    if shape != image.shape:
        fits = shape[0] == image.shape[0]
        what = f"has {list(shape)}"
        advice = f"write `resize {image.shape[1]}` in the data section" if fits else "the number of channels differs"
        if prepared.preprocessing.crop is not None:
            what = f"has {list(shape)} after augmentation"
            advice = f"the size that `augment` makes of images of {height}x{width} has to be the network's"
        raise DlcError.of(
            "E0833",
            f"the network takes images of {list(image.shape)}, the data set {data.name} {what}",
            span=data.span,
            help=advice,
        )
    if len(prepared.train.labels) < recipe.batch:
        raise RuntimeFault(
            "R0316",
            f"a batch takes {recipe.batch} samples, but the training part has {len(prepared.train.labels)}",
            help="make `batch` smaller",
        )
    for term in recipe.losses:
        output = next(o for o in recipe.network.outputs if o.name == term.output)
        classes = output.tensor.shape[0]
        if classes < len(prepared.classes):
            raise DlcError.of(
                "E0834",
                f"the output {term.output} has {classes} scores, the data set {data.name} has {len(prepared.classes)} classes",
                span=data.span,
                help=f"set the model's number of classes to {len(prepared.classes)}",
            )
    return prepared


def compiled_warps(threads: int | None = None, options: BuildOptions = PLAIN) -> MakeWarp:
    """Makes compiled functions that move pixels, on up to `threads` cores; those that workers share use one."""

    def make(shape: WarpShape, shared: bool) -> Warp:
        from dlc.compiler.augmentation import compile_warp
        from dlc.compiler.codegen.target import CpuTarget, Target

        target = Target.parse("cpu", options.cache)
        assert isinstance(target, CpuTarget)
        compiled = compile_warp(shape, target, options)
        constants = {name: aligned_copy(array) for name, array in compiled.constants.items()}
        return _Compiled(Executor(compiled.program, compiled.function, constants, 1 if shared else threads))

    return make


class _Compiled:
    """A warp that a program makes."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def __call__(
        self,
        images: np.ndarray,
        samples: np.ndarray,
        places: np.ndarray,
        scale: np.ndarray,
        offset: np.ndarray,
        field: Field | None,
    ) -> np.ndarray:
        factors = () if field is None else (field.noise, field.rows, field.columns)
        return self._executor.execute((images, samples, places, scale, offset, *factors))[0]
