"""Batches for the training step, by step number, made ahead of need by a thread of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from dlc.runtime.arrays import aligned_empty
from dlc.runtime.data.mix import Mix
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.data.sources.base import Split
from dlc.runtime.data.streams import AUGMENT, generator, permutation
from dlc.runtime.data.transforms.base import Transform
from dlc.runtime.errors import RuntimeFault

AHEAD = 4
"""Batches that wait, finished, in front of the step."""


@dataclass(frozen=True)
class Batch:
    """Normalised images float32 [n, c, h, w], 64-byte aligned, and labels int32 [n].

    `mix` is there where the recipe's augmentation mixes images (mixup, cutmix), then in every batch; else it is None.
    """

    images: np.ndarray
    labels: np.ndarray
    mix: Mix | None = None


class Loader:
    """Training batches of one size. Step s belongs to epoch s // steps_per_epoch; each epoch has its own order.

    A batch depends on (seed, step) alone, so training can begin at any step. The last samples of an epoch's order, too
    few for a batch, are left out of that epoch: another few in each.
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        *,
        batch: int,
        augment: Sequence[Transform] = (),
        seed: int = 0,
    ) -> None:
        """Raises RuntimeFault where there are fewer samples than one batch takes."""
        if len(split.labels) < batch:
            raise RuntimeFault(
                "R0316",
                f"a batch takes {batch} samples, but the training part has {len(split.labels)}",
                help="make `batch` smaller",
            )
        self.split, self.batch, self.augment, self.seed = split, batch, tuple(augment), seed
        self.steps_per_epoch = len(split.labels) // batch
        self._normalize = preprocessing.normalizer(255.0 if split.images.dtype == np.uint8 else 1.0)
        self._order = (-1, np.empty(0, np.int64))

    def at(self, step: int) -> Batch:
        """The batch of one step, counted from 0 over all epochs."""
        epoch, index = divmod(step, self.steps_per_epoch)
        kept, order = self._order
        if kept != epoch:
            order = permutation(self.seed, epoch, len(self.split.labels))
            self._order = (epoch, order)
        chosen = order[index * self.batch : (index + 1) * self.batch]
        images = self.split.images[chosen]
        if self.augment:
            images = images.astype(np.float32)
            for stream, transform in enumerate(self.augment, AUGMENT):
                images = transform.apply(images, generator(stream, self.seed, epoch, index))
        return Batch(self._normalize(images, aligned_empty(images.shape, "float32")), self.split.labels[chosen])

    def batches(self, start: int, stop: int) -> Generator[Batch]:
        """The batches of the steps from `start` to before `stop`, in order, made ahead by a thread.

        What goes wrong in the thread is raised here; closing the iterator ends the thread.
        """
        ready: queue.Queue[Batch | BaseException] = queue.Queue(AHEAD)
        ended = threading.Event()

        def put(item: Batch | BaseException) -> bool:
            while not ended.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def work() -> None:
            try:
                for step in range(start, stop):
                    if not put(self.at(step)):
                        return
            except BaseException as error:  # Handed to the caller, whatever it is.
                put(error)

        thread = threading.Thread(target=work, name="dlc-loader", daemon=True)
        thread.start()
        try:
            for _ in range(start, stop):
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            ended.set()
            thread.join()
