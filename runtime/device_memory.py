"""Memory on a device that outlives a run: copies of weights and optimizer state, and blocks for results, used again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from dlc.runtime.cuda import Gpu


class DeviceMemory:
    """Arrays of the host and their copies on a device. Programs work on the copies; the arrays are brought up to date, and
    the copies after the arrays were changed, when somebody asks for it."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self._held: dict[int, tuple[np.ndarray, int]] = {}

    def address(self, array: np.ndarray) -> int:
        """Where an array's copy lies; it is made at the first call. Raises RuntimeFault (R0207) where there is no room."""
        held = self._held.get(id(array))
        if held is None:
            held = array, self.gpu.allocate(array.nbytes)
            self._held[id(array)] = held
            self.upload([array])
        return held[1]

    def upload(self, arrays: Iterable[np.ndarray] | None = None) -> None:
        """Copies arrays to the device: some, or all."""
        for array in self._arrays(arrays):
            source = np.ascontiguousarray(array)
            self.gpu.upload(self._held[id(array)][1], source.ctypes.data, source.nbytes)
            self.gpu.synchronize()  # the source may be a temporary

    def download(self, arrays: Iterable[np.ndarray] | None = None) -> None:
        """Copies what the device holds into the arrays, which are contiguous: some, or all."""
        for array in self._arrays(arrays):
            self.gpu.download(array.ctypes.data, self._held[id(array)][1], array.nbytes)
        self.gpu.synchronize()

    def close(self) -> None:
        """Gives the copies back."""
        while self._held:
            self.gpu.free(self._held.popitem()[1][1])

    def _arrays(self, arrays: Iterable[np.ndarray] | None) -> list[np.ndarray]:
        if arrays is None:
            return [array for array, _ in self._held.values()]
        return [array for array in arrays if id(array) in self._held]


class Blocks:
    """Blocks of memory for results. What is given back is kept, up to `most` blocks of a size: to allocate makes a device wait
    until it has nothing to do, and takes longer than a small network."""

    def __init__(self, gpu: Gpu, most: int = 8) -> None:
        self._gpu, self._most = gpu, most
        self._spare: dict[int, list[int]] = {}
        self._closed = False

    def take(self, size: int) -> int:
        """The address of a block that nobody uses. Raises RuntimeFault (R0207) where there is no room."""
        try:
            address = self._spare[size].pop()
        except (KeyError, IndexError):
            return self._gpu.allocate(size)
        self._gpu.finish()  # whoever gave it back may have left work in line that reads it
        return address

    def giver(self, size: int) -> Callable[[int], None]:
        """What takes a block of this size back; it may be called from any thread, and after `close`."""

        def give(address: int) -> None:
            kept = self._spare.setdefault(size, [])
            if self._closed or len(kept) >= self._most:
                self._gpu.free(address)
            else:
                kept.append(address)

        return give

    def trim(self) -> None:
        """Gives the memory of blocks that nobody uses back."""
        for kept in list(self._spare.values()):
            while kept:
                self._gpu.free(kept.pop())

    def close(self) -> None:
        """As `trim`; blocks that come back later are not kept."""
        self._closed = True
        self.trim()
