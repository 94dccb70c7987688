"""A chain of augmentations over batches: neighbouring moves of pixels become one, images are sampled once for them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dlc.runtime.arrays import aligned_empty
from dlc.runtime.data.affine import Warp, WarpShape, coefficients, frame, warp
from dlc.runtime.data.draws import Draws
from dlc.runtime.data.mix import Mix
from dlc.runtime.data.preprocessing import Normalizer
from dlc.runtime.data.streams import AUGMENT
from dlc.runtime.data.transforms.base import Geometric, Mixing, Places, Recolouring, Size, Transform, unmoved
from dlc.runtime.errors import RuntimeFault

MakeWarp = Callable[[WarpShape, bool], Warp]
"""Gives the function that samples batches of one shape. The second argument is whether several threads may call it while a
training step runs: it should then use one core."""


def plain_warp(shape: WarpShape, shared: bool) -> Warp:
    """Samples with numpy."""
    return partial(warp, size=shape.target)


@dataclass(frozen=True)
class Move:
    """One sampling of images, for several transforms in a row: each with the number of its stream."""

    parts: tuple[tuple[int, Geometric], ...]
    source: Size
    target: Size

    @property
    def displaced(self) -> bool:
        """Whether a field moves pixels one by one."""
        return any(part.displaces for _, part in self.parts)

    def places(self, draws: Callable[[int], Draws], count: int) -> Places:
        """The moves of all parts as one; the field is what is added in the source."""
        matrix, translation = unmoved(count)
        field, size = None, self.source
        for stream, part in self.parts:
            places = part.places(draws(stream), size)
            size = part.target(size)
            translation = translation + np.einsum("nij,nj->ni", matrix, places.translation)
            matrix = matrix @ places.matrix
            if places.field is not None:
                turned = len(self.parts) > 1
                field = np.einsum("nij,njrc->nirc", matrix.astype(np.float32), places.field) if turned else places.field
        return Places(matrix, translation, field)


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
    """A batch before it is sampled: images [n, c, h, w], framed where a move comes first, and that move's places."""

    images: np.ndarray
    labels: np.ndarray
    samples: np.ndarray
    epoch: int
    places: Places | None = None


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
                shape = WarpShape(batch, channels, step.source, step.target, dtype, step.displaced, per_pixel)
                self._warps[i] = make_warp(shape, not self.brief)

    @property
    def brief(self) -> bool:
        """Whether `finish` is one sampling, which a compiled warp shares out to all cores, and little more."""
        kinds = [type(step) for step in self.steps]
        return kinds in ([Move], [Move, MixUp])

    def begin(self, images: np.ndarray, labels: np.ndarray, samples: np.ndarray, epoch: int) -> Begun:
        """The random places of some images, whose numbers among the training images are `samples`."""
        first = self.steps[0] if self.steps else None
        if not isinstance(first, Move):
            return Begun(images, labels, samples, epoch)
        places = first.places(lambda stream: Draws(stream, self.seed, epoch, samples), len(samples))
        return Begun(frame(images), labels, samples, epoch, places)

    def finish(self, begun: Begun) -> tuple[np.ndarray, Mix | None]:
        """The images, float32 and normalised, and how they are mixed."""
        images, mix = begun.images, None

        def draws(stream: int) -> Draws:
            return Draws(stream, self.seed, begun.epoch, begun.samples)

        for i, step in enumerate(self.steps):
            if isinstance(step, Move):
                places = begun.places if i == 0 else None
                if places is None:
                    images, places = frame(images), step.places(draws, len(images))
                factors = self._normalize if i == self._normalizing else self._one
                found = coefficients(places.matrix, places.translation, step.source, step.target)
                images = self._warps[i](images, found, factors.scale, factors.offset, places.field)
            elif isinstance(step, Recolour):
                images = step.transform.apply(images.astype(np.float32, copy=i == 0), draws(step.stream), self._white)
            else:
                if self._normalizing < 0:
                    images = self._normalize(images)
                images, mix = step.transform.mix(images, begun.labels, draws(step.stream))
        if self._normalizing < 0 and mix is None:
            images = self._normalize(images, aligned_empty(images.shape, "float32"))
        return images, mix
