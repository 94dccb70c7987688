"""A chain of augmentations over batches: neighbouring moves of pixels become one, images are sampled once for them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dlc.runtime.arrays import aligned_empty
from dlc.runtime.data.affine import AFTER, BEFORE, Field, Warp, WarpShape, coefficients, warp
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.mix import Mix
from dlc.runtime.data.preprocessing import Normalizer
from dlc.runtime.data.streams import AUGMENT
from dlc.runtime.data.transforms.base import Geometric, Mixing, Recolouring, Size, Transform, unmoved
from dlc.runtime.errors import RuntimeFault

DrawsOf = Callable[[int], Draws]
"""The random numbers of some samples, by the number of a stream."""

MakeWarp = Callable[[WarpShape, bool], Warp]
"""Gives the function that samples batches of one shape. The second argument is whether several threads may call it while a
training step runs: it should then use one core."""


def plain_warp(shape: WarpShape, shared: bool) -> Warp:
    """Samples with numpy."""
    return partial(warp, size=shape.target)


def frame(images: np.ndarray) -> np.ndarray:
    """Images [n, c, h, w] inside a border of zeros, [n, c, h + 3, w + 3], so that no sample needs a test."""
    n, channels, height, width = images.shape
    shape = (n, channels, height + BEFORE + AFTER, width + BEFORE + AFTER)
    framed = aligned_empty(shape, images.dtype)
    framed[:, :, :BEFORE], framed[:, :, -AFTER:] = 0, 0
    framed[..., :BEFORE], framed[..., -AFTER:] = 0, 0
    framed[:, :, BEFORE:-AFTER, BEFORE:-AFTER] = images
    return framed


@dataclass(frozen=True)
class Move:
    """One sampling of images, for several transforms in a row: each with the number of its stream."""

    parts: tuple[tuple[int, Geometric], ...]
    source: Size
    target: Size

    def places(self, draws: DrawsOf, count: int) -> np.ndarray:
        """The moves of all parts as one: `affine.coefficients`, float32 [n, 6]."""
        matrix, translation = unmoved(count)
        size = self.source
        for stream, part in self.parts:
            places = part.places(draws(stream), size)
            size = part.target(size)
            translation = translation + np.einsum("nij,nj->ni", matrix, places.translation)
            matrix = matrix @ places.matrix
        return coefficients(matrix, translation, self.source, self.target)

    def field(self, draws: DrawsOf) -> Field | None:
        """The displacements of the last part, which is the only one that may have any."""
        stream, part = self.parts[-1]
        return part.field(draws(stream), self.target) if part.displaces else None


@dataclass(frozen=True)
class Recolour:
    """One change of colours."""

    stream: int
    transform: Recolouring


@dataclass(frozen=True)
class MixUp:
    """The mixing of a batch's images."""

    stream: int
    transform: Mixing


def steps_of(transforms: Sequence[Transform], size: Size) -> Iterator[Move | Recolour | MixUp]:
    """The chain as it is carried out on images of a size.

    A field ends a move: what comes behind it would need the field at other places. Raises RuntimeFault where a transform
    cannot take its images, or stands behind one that mixes them.
    """
    parts: list[tuple[int, Geometric]] = []
    source = size
    for stream, transform in enumerate(transforms, AUGMENT):
        if isinstance(transform, Geometric):
            parts.append((stream, transform))
            size = transform.target(size)
        ends = not isinstance(transform, Geometric) or transform.displaces
        if parts and ends:
            yield Move(tuple(parts), source, size)
            parts, source = [], size
        if isinstance(transform, Recolouring):
            yield Recolour(stream, transform)
        if isinstance(transform, Mixing):
            if transform is not transforms[-1]:
                raise RuntimeFault(
                    "R0322",
                    f"{transform.keyword} mixes images, but another augmentation stands behind it",
                    help=f"write it at the end: augment … -> {transform.keyword}(…)",
                )
            yield MixUp(stream, transform)
    if parts:
        yield Move(tuple(parts), source, size)


def size_after(transforms: Sequence[Transform], size: Size) -> Size:
    """The size of the images that a chain makes. Raises RuntimeFault as `steps_of` does."""
    for step in steps_of(transforms, size):
        if isinstance(step, Move):
            size = step.target
    return size


@dataclass(frozen=True)
class Begun:
    """A batch before it is sampled: images [n, c, h, w], framed where a move comes first, and where that moves them."""

    images: np.ndarray
    labels: np.ndarray
    samples: np.ndarray
    epoch: int
    places: np.ndarray | None = None
    field: Field | None = None


class Augmenter:
    """Makes training batches out of images: a chain of augmentations, then normalisation.

    `begin` and `finish` are the halves of the work. What they make depends on the samples, the seed and the epoch alone,
    but for mixtures, which depend on the neighbours in the batch.
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        images: np.ndarray,
        normalize: Normalizer,
        *,
        batch: int,
        seed: int = 0,
        make_warp: MakeWarp = plain_warp,
    ) -> None:
        """`images` are the training images [n, c, h, w], uint8 or float32. Raises RuntimeFault where a transform does not
        suit them."""
        channels, size = images.shape[1], (images.shape[2], images.shape[3])
        self.steps = tuple(steps_of([t.fitted(images) for t in transforms], size))
        self.seed, self._normalize = seed, normalize
        self._white = 255.0 if images.dtype == np.uint8 else 1.0
        self._one = Normalizer(np.ones((channels, 1, 1), np.float32), np.zeros((channels, 1, 1), np.float32))
        last = max((i for i, s in enumerate(self.steps) if not isinstance(s, MixUp)), default=-1)
        self._normalizing = last if last >= 0 and isinstance(self.steps[last], Move) else -1
        self._warps: dict[int, Warp] = {}
        for i, step in enumerate(self.steps):
            if isinstance(step, Move):
                per_pixel = i == self._normalizing and normalize.scale.shape[1:] != (1, 1)
                dtype = str(images.dtype) if i == 0 else "float32"
                field = step.field(lambda stream: Draws(stream, 0, 0, np.zeros(1, np.int64)))
                rank = None if field is None else (field.noise.shape[2], field.noise.shape[3])
                shape = WarpShape(batch, channels, step.source, step.target, dtype, rank, per_pixel)
                self._warps[i] = make_warp(shape, not self.brief)

    @property
    def brief(self) -> bool:
        """Whether `finish` is one sampling, which a compiled warp shares out to all cores, and little more."""
        kinds = [type(step) for step in self.steps]
        return kinds in ([Move], [Move, MixUp])

    def places(self, samples: np.ndarray, epoch: int) -> np.ndarray | None:
        """Where the first step, if it is a move, takes the pixels of some samples from: many at once cost least."""
        first = self.steps[0] if self.steps else None
        return first.places(self._draws(samples, epoch), len(samples)) if isinstance(first, Move) else None

    def begin(
        self, images: np.ndarray, labels: np.ndarray, samples: np.ndarray, epoch: int, places: np.ndarray | None
    ) -> Begun:
        """Some images, whose numbers among the training images are `samples`, ready to be sampled at their `places`."""
        first = self.steps[0] if self.steps else None
        if not isinstance(first, Move):
            return Begun(images, labels, samples, epoch)
        return Begun(frame(images), labels, samples, epoch, places, first.field(self._draws(samples, epoch)))

    def finish(self, begun: Begun) -> tuple[np.ndarray, Mix | None]:
        """The images, float32 and normalised, and how they are mixed."""
        images, mix = begun.images, None
        draws = self._draws(begun.samples, begun.epoch)
        for i, step in enumerate(self.steps):
            if isinstance(step, Move):
                places, field = begun.places, begun.field
                if i > 0 or places is None:
                    images, places, field = frame(images), step.places(draws, len(images)), step.field(draws)
                factors = self._normalize if i == self._normalizing else self._one
                images = self._warps[i](images, places, factors.scale, factors.offset, field)
            elif isinstance(step, Recolour):
                images = step.transform.apply(images.astype(np.float32, copy=i == 0), draws(step.stream), self._white)
            else:
                if self._normalizing < 0:
                    images = self._normalize(images)
                images, mix = step.transform.mix(images, begun.labels, draws(step.stream))
        if self._normalizing < 0 and mix is None:
            images = self._normalize(images, aligned_empty(images.shape, "float32"))
        return images, mix

    def _draws(self, samples: np.ndarray, epoch: int) -> DrawsOf:
        return lambda stream: Draws(stream, self.seed, epoch, samples)
