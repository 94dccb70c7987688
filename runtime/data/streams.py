"""Random numbers by address: any number of any step can be made on its own, which is what makes resuming exact.

Every stream is a Philox 4x64 generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) whose
counter starts at (0, step, epoch, stream) under the key (seed, KEY).
"""

from __future__ import annotations

from dlc.runtime.deferred import np

KEY = 0x646C63
ORDER, SPLIT, AUGMENT = 0, 1, 2
"""Streams; the augmentations of a recipe use AUGMENT and the numbers after it, one each."""


def generator(stream: int, seed: int, epoch: int, step: int) -> np.random.Generator:
    """The generator of one stream at one step."""
    return np.random.Generator(_philox(stream, seed, epoch, step))


def bits(stream: int, seed: int, epoch: int, step: int, count: int) -> np.ndarray:
    """`count` raw uint64 of a stream: these never change from one version of numpy to the next."""
    return _philox(stream, seed, epoch, step).random_raw(count)


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of an epoch's samples."""
    return np.argsort(bits(ORDER, seed, epoch, 0, count), kind="stable")


def _philox(stream: int, seed: int, epoch: int, step: int) -> np.random.Philox:
    counter = np.array([0, step, epoch, stream], np.uint64)
    return np.random.Philox(counter=counter, key=np.array([seed, KEY], np.uint64))
