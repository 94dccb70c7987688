"""Arrays with a copy on a device: weights and optimizer state, which several programs read and training writes there."""

from __future__ import annotations

from collections.abc import Iterable

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
