"""Inputs on their way to a device: pinned memory of the host and places on the device, twice, so that the next inputs can be
copied while the present ones are computed with."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from dlc.runtime.cuda import Event, Gpu
from dlc.runtime.errors import RuntimeFault


@dataclass
class Places:
    """Where each input lies on the device, and its pinned copy on the host.

    `expected` holds, by the input's place in the program, an array that is on its way there; `arrives` gives the event after
    which all of them are on the device.
    """

    device: list[int]
    host: list[int]
    expected: dict[int, np.ndarray] = field(default_factory=dict)
    arrives: Future[Event] | None = None


class Staging:
    """The inputs' places for one batch size. The second set is made when inputs are first expected."""

    def __init__(self, gpu: Gpu, sizes: Sequence[int], first: Places) -> None:
        """`sizes` are the inputs' in bytes, each a multiple of what places are aligned to."""
        self._gpu, self._sizes, self._sets = gpu, list(sizes), [first]
        self._worker: ThreadPoolExecutor | None = None
        self._own: tuple[int, int] | None = None

    def expect(self, arrays: dict[int, np.ndarray]) -> None:
        """Begins to bring arrays to the device, by a thread of its own; nothing where both sets wait for their runs."""
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, "dlc-copies")
            with suppress(RuntimeFault):  # without room for a second set there is the first
                self._sets.append(self._second())
        free = [places for places in self._sets if places.arrives is None]
        if free:
            places = free[-1]
            places.expected = dict(arrays)
            places.arrives = self._worker.submit(self._bring, places, places.expected)

    def take(self, values: Sequence[Any]) -> tuple[Places, frozenset[int]]:
        """The set of places for inputs, and which of these lie there already; what was expected and is none of them is
        forgotten where there is no other room."""
        for places in self._sets:
            if places.expected and all(values[index] is array for index, array in places.expected.items()):
                return places, self._arrived(places)
        places = next((p for p in self._sets if p.arrives is None), self._sets[0])
        self._arrived(places)
        return places, frozenset()

    def close(self) -> None:
        """Waits for what is on its way, and gives the second set back."""
        if self._worker is not None:
            self._worker.shutdown()
        for places in self._sets:
            self._arrived(places)
        if self._own is not None:
            self._gpu.free(self._own[0])
            self._gpu.free_host(self._own[1])
            self._own = None

    def _second(self) -> Places:
        starts = np.cumsum([0, *self._sizes]).tolist()
        device = self._gpu.allocate(starts[-1])
        try:
            host = self._gpu.allocate_host(starts[-1])
        except BaseException:
            self._gpu.free(device)
            raise
        self._own = device, host
        return Places([device + s for s in starts[:-1]], [host + s for s in starts[:-1]])

    def _bring(self, places: Places, arrays: Mapping[int, np.ndarray]) -> Event:
        for index, array in arrays.items():
            view(places.host[index], array.shape, array.dtype)[...] = array
            self._gpu.upload_aside(places.device[index], places.host[index], array.nbytes)
        return self._gpu.mark_aside()

    def _arrived(self, places: Places) -> frozenset[int]:
        """Lets the device's work wait for what is on its way to these places, which are free for others then."""
        arrives, there = places.arrives, frozenset(places.expected)
        places.arrives, places.expected = None, {}
        if arrives is not None:
            self._gpu.wait_for(arrives.result())
        return there


def view(address: int, shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray:
    """Memory of this process as an array."""
    size = prod(shape) * dtype.itemsize
    memory = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
    return np.frombuffer(memory, dtype).reshape(tuple(shape))
