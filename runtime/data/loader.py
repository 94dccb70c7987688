"""Batches for the training step, by step number, made ahead of need by threads of their own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from dlc.runtime.data.augment import Augmenter, Begun, MakeWarp, plain_warp
from dlc.runtime.data.mix import Mix
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.data.sources.base import Split
from dlc.runtime.data.streams import permutation
from dlc.runtime.data.transforms.base import Transform
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.threads import available

AHEAD = 3
"""Batches that wait, finished or begun, in front of the step, beside those that the workers make."""

MOST_WORKERS = 8
"""Threads that make batches where that is work, and cores are many."""

BLOCK = 32
"""Batches whose random places are made at once: numpy's calls cost more than the numbers of one batch do."""


@dataclass(frozen=True)
class Batch:
    """Normalised images float32 [n, c, h, w], and labels int32 [n].

    `mix` is there where the recipe's augmentation mixes images (mixup, cutmix), then in every batch; else it is None.
    """

    images: np.ndarray
    labels: np.ndarray
    mix: Mix | None = None


class Loader:
    """Training batches of one size. Step s belongs to epoch s // steps_per_epoch; each epoch has its own order.

    A batch depends on (seed, step) alone, so training can begin at any step, and a sample's augmentation on (seed, epoch,
    sample), whatever the batch size and the number of workers. The last samples of an epoch's order, too few for a batch,
    are left out of that epoch: another few in each.
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        *,
        batch: int,
        augment: Sequence[Transform] = (),
        seed: int = 0,
        make_warp: MakeWarp = plain_warp,
    ) -> None:
        """`make_warp` gives the function that moves pixels, numpy's if not said.

        Raises RuntimeFault where there are fewer samples than one batch takes, or an augmentation does not suit them.
        """
        if len(split.labels) < batch:
            raise RuntimeFault(
                "R0316",
                f"a batch takes {batch} samples, but the training part has {len(split.labels)}",
                help="make `batch` smaller",
            )
        self.split, self.batch, self.seed = split, batch, seed
        self.steps_per_epoch = len(split.labels) // batch
        normalize = preprocessing.normalizer(255.0 if split.images.dtype == np.uint8 else 1.0)
        self._augmenter = Augmenter(augment, split.images, normalize, batch=batch, seed=seed, make_warp=make_warp)
        self._orders: dict[int, np.ndarray] = {}
        self._blocks: dict[tuple[int, int], tuple[np.ndarray, np.ndarray | None]] = {}
        self._lock = threading.Lock()

    def at(self, step: int) -> Batch:
        """The batch of one step, counted from 0 over all epochs."""
        return self._finish(self._begin(step))

    def batches(self, start: int, stop: int, workers: int | None = None) -> Generator[Batch]:
        """The batches of the steps from `start` to before `stop`, in order, made ahead by threads; by the caller's with
        `workers` 0, by as many as suit the work and the machine with None. Their number makes no difference to any batch.

        What goes wrong in a thread is raised here; closing the iterator ends the threads.
        """
        if workers is None:
            workers = 1 if self._augmenter.brief else max(1, min(MOST_WORKERS, available() // 4))
        if workers < 1:
            yield from map(self.at, range(start, stop))
            return
        brief = self._augmenter.brief
        waiting: deque[Future[Begun | Batch]] = deque()
        pool = ThreadPoolExecutor(workers, "dlc-loader")
        try:
            ahead = start
            for step in range(start, stop):
                while ahead < min(stop, step + workers + AHEAD):
                    waiting.append(pool.submit(self._begin if brief else self.at, ahead))
                    ahead += 1
                made = waiting.popleft().result()
                # What is left of a batch that waits begun is shared by all cores: no worker takes one from the step.
                yield made if isinstance(made, Batch) else self._finish(made)
        finally:
            pool.shutdown(cancel_futures=True)

    def _begin(self, step: int) -> Begun:
        epoch, index = divmod(step, self.steps_per_epoch)
        block, place = divmod(index, BLOCK)
        samples, places = self._block(epoch, block)
        part = slice(place * self.batch, (place + 1) * self.batch)
        chosen = samples[part]
        return self._augmenter.begin(self.split.labels[chosen], chosen, epoch, None if places is None else places[part])

    def _finish(self, begun: Begun) -> Batch:
        images, mix = self._augmenter.finish(begun)
        return Batch(images, begun.labels, mix)

    def _block(self, epoch: int, block: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The samples of some batches in a row, and where their pixels come from."""
        with self._lock:
            found = self._blocks.get((epoch, block))
            if found is None:
                if epoch not in self._orders:
                    self._orders = {epoch: permutation(self.seed, epoch, len(self.split.labels))}
                size = BLOCK * self.batch
                samples = self._orders[epoch][block * size : (block + 1) * size]
                found = samples, self._augmenter.places(samples, epoch)
                self._blocks = dict([*self._blocks.items()][-1:]) | {(epoch, block): found}
            return found
