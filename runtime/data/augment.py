"""A chain of augmentations over batches: neighbouring moves of pixels become one, images are sampled once for them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dlc.runtime.arrays import aligned_empty
from dlc.runtime.data.affine import Field, Warp, WarpShape, coefficients, warp
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


INDEXED = 2**31 - 1
"""Numbers in an array of images that kernels index by 32 bits: of more, each batch is gathered first."""


def plain_warp(shape: WarpShape, shared: bool) -> Warp:
    """Samples with numpy."""
    return partial(warp, size=shape.target)


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
    """A batch before it is sampled: the numbers of its images, int32 [n], and where the first step moves them."""

    samples: np.ndarray
    labels: np.ndarray
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
        self._images = images
        self._white = 255.0 if images.dtype == np.uint8 else 1.0
        self._one = Normalizer(np.ones((channels, 1, 1), np.float32), np.zeros((channels, 1, 1), np.float32))
        last = max((i for i, s in enumerate(self.steps) if not isinstance(s, MixUp)), default=-1)
        self._normalizing = last if last >= 0 and isinstance(self.steps[last], Move) else -1
        self._warps: dict[int, Warp] = {}
        self._whole = images.size <= INDEXED
        for i, step in enumerate(self.steps):
            if isinstance(step, Move):
                per_pixel = i == self._normalizing and normalize.scale.shape[1:] != (1, 1)
                dtype = str(images.dtype) if i == 0 else "float32"
                field = step.field(lambda stream: Draws(stream, 0, 0, np.zeros(1, np.int64)))
                rank = None if field is None else (field.noise.shape[2], field.noise.shape[3])
                count = len(images) if i == 0 and self._whole else batch
                shape = WarpShape(batch, count, channels, step.source, step.target, dtype, rank, per_pixel)
                self._warps[i] = make_warp(shape, not self.brief)

    @property
    def brief(self) -> bool:
        """Whether `finish` is one sampling, which a compiled warp shares out to all cores, and little more."""
        kinds = [type(step) for step in self.steps]
        return kinds in ([Move], [Move, MixUp])

    @property
    def _first(self) -> Move | None:
        """The first step, if it is a move: that samples the training images where they lie."""
        first = self.steps[0] if self.steps else None
        return first if isinstance(first, Move) else None

    def places(self, samples: np.ndarray, epoch: int) -> np.ndarray | None:
        """Where the first step, if it is a move, takes the pixels of some samples from: many at once cost least."""
        first = self._first
        return None if first is None else first.places(self._draws(samples, epoch), len(samples))

    def begin(self, labels: np.ndarray, samples: np.ndarray, epoch: int, places: np.ndarray | None) -> Begun:
        """What is known of a batch before it is sampled, by the numbers of its images among the training images."""
        first = self._first
        field = None if first is None else first.field(self._draws(samples, epoch))
        return Begun(samples.astype(np.int32), labels, epoch, places, field)

    def finish(self, begun: Begun) -> tuple[np.ndarray, Mix | None]:
        """The images, float32 and normalised, and how they are mixed."""
        mix = None
        images, chosen = self._images, begun.samples
        if not self._whole or self._first is None:
            images, chosen = images[chosen], np.arange(len(chosen), dtype=np.int32)
        draws = self._draws(begun.samples, begun.epoch)
        for i, step in enumerate(self.steps):
            if isinstance(step, Move):
                places, field = begun.places, begun.field
                if i > 0 or places is None:
                    places, field = step.places(draws, len(chosen)), step.field(draws)
                factors = self._normalize if i == self._normalizing else self._one
                images = self._warps[i](images, chosen, places, factors.scale, factors.offset, field)
                chosen = np.arange(len(images), dtype=np.int32)
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
