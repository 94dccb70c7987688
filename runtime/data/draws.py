"""Random numbers of augmentation: each belongs to a sample, whatever batch it is in and whoever makes the batch."""

from __future__ import annotations

from dlc.runtime.data.streams import bits
from dlc.runtime.deferred import np

ROOM = 20
"""Logarithm (base 2) of how many numbers a sample has in one stream."""

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Draws:
    """Random numbers for some samples in one epoch; a stream is one augmentation's.

    Number j of sample s is output `s * 2^20 + j` of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014), which can be entered at any place; its state begins at a Philox number of (stream, seed,
    epoch). Each call takes the numbers behind those of the call before.
    """

    def __init__(self, stream: int, seed: int, epoch: int, samples: np.ndarray) -> None:
        start = int(bits(stream, seed, epoch, 0, 1)[0])
        places = (np.asarray(samples).astype(np.uint64) << np.uint64(ROOM)) + np.uint64(1)
        self._states = places * np.uint64(GOLDEN) + np.uint64(start)
        self._taken = 0

    def __len__(self) -> int:
        return len(self._states)

    def words(self, count: int) -> np.ndarray:
        """uint64 [n, count]: bits, all equally likely."""
        steps = np.arange(self._taken, self._taken + count, dtype=np.uint64) * np.uint64(GOLDEN)
        self._taken += count
        z = self._states[:, None] + steps
        z ^= z >> np.uint64(30)
        z *= np.uint64(FIRST)
        z ^= z >> np.uint64(27)
        z *= np.uint64(SECOND)
        z ^= z >> np.uint64(31)
        return z

    def uniform(self, low: float, high: float, count: int = 1) -> np.ndarray:
        """float64 [n, count], evenly between `low` and `high`."""
        unit: np.ndarray = (self.words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        unit *= high - low
        unit += low
        return unit

    def integers(self, low: int, high: int, count: int = 1) -> np.ndarray:
        """int64 [n, count], from `low` to `high`, both included."""
        whole: np.ndarray = np.minimum(np.floor(self.uniform(low, high + 1, count)), high)
        return whole.astype(np.int64)

    def normal(self, count: int = 1) -> np.ndarray:
        """float64 [n, count] of the standard normal distribution (Box and Muller, 1958)."""
        unit = self.uniform(0.0, 1.0, 2 * count)
        radius: np.ndarray = np.sqrt(-2.0 * np.log1p(-unit[:, :count]))
        radius *= np.cos(2.0 * np.pi * unit[:, count:])
        return radius

    def noise(self, count: int) -> np.ndarray:
        """float32 [n, count], evenly between -1 and 1 in steps of 2^-15: four numbers of one word, where many are needed."""
        words = self.words(-(-count // 4))
        noise: np.ndarray = words.view(np.int16)[:, :count].astype(np.float32)
        noise += np.float32(0.5)
        noise *= np.float32(2.0**-15)
        return noise
