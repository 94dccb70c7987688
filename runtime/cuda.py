"""A GPU as the executor sees it: memory, copies, one stream, captured graphs and times, through NVIDIA's CUDA runtime."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dlc.runtime.errors import RuntimeFault
from dlc.runtime.library import import_tvm_ffi, load_cuda

CUDA = 2
"""DLPack's number for NVIDIA GPUs."""

_OUT_OF_MEMORY = 2
_TO_DEVICE, _TO_HOST, _ON_DEVICE = 1, 2, 3
_NON_BLOCKING = 1
_NO_TIMES = 2
_THREAD_LOCAL = 1  # what other threads do meanwhile does not break the capture

Graph = Any
"""A captured list of kernels, ready to be launched as one."""

Event = Any
"""A point in the work of a device that other work can wait for."""


class Gpu(Protocol):
    """What the device executor needs of a device. Addresses are whole numbers; copies and kernels run in order."""

    kind: int
    stream: int

    def allocate(self, size: int) -> int:
        """Memory on the device. Raises RuntimeFault (R0207) where there is not enough."""

    def free(self, address: int) -> None:
        """Gives memory on the device back."""

    def allocate_host(self, size: int) -> int:
        """Memory of this process that the device copies from and to directly (pinned)."""

    def free_host(self, address: int) -> None:
        """Gives pinned memory back."""

    def upload(self, to: int, source: int, size: int) -> None:
        """Copies bytes to the device."""

    def download(self, to: int, source: int, size: int) -> None:
        """Copies bytes from the device."""

    def copy(self, to: int, source: int, size: int) -> None:
        """Copies bytes on the device."""

    def upload_aside(self, to: int, source: int, size: int) -> None:
        """Copies bytes to the device beside what it computes, from any thread."""

    def mark_aside(self) -> Event:
        """The point at which all that was copied aside so far is there."""

    def wait_for(self, event: Event) -> None:
        """What comes next on the device waits for an event, which is used up."""

    def synchronize(self) -> None:
        """Waits until all is done. Raises RuntimeFault (R0520) where a kernel failed."""

    def finish(self) -> None:
        """Waits until all that anybody in this process gave the device to do is done."""

    def run(self, work: Callable[[], None]) -> None:
        """Calls what launches kernels, so that they run in this device's order."""

    def capture(self, work: Callable[[], None]) -> Graph:
        """The kernels that `work` launches, as a graph; they do not run yet."""

    def launch(self, graph: Graph) -> None:
        """Runs a captured graph."""

    def destroy(self, graph: Graph) -> None:
        """Gives a graph back."""

    def times(self, work: Sequence[Callable[[], None]]) -> list[float]:
        """Seconds that each of some pieces of work takes on the device, one after the other."""


class CudaGpu:
    """The first NVIDIA GPU of this machine (`CUDA_VISIBLE_DEVICES` chooses).

    Everything runs in order on one stream, but for copies aside, which have another.
    """

    kind = CUDA

    def __init__(self) -> None:
        self._library = load_cuda()
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        self._call("cudaSetDevice", 0)
        self.stream, self._aside = self._new_stream(), self._new_stream()
        ffi = import_tvm_ffi()
        self._use_stream: Callable[[int], Any] = lambda s: ffi.use_raw_stream(ffi.device("cuda", 0), s)

    def allocate(self, size: int) -> int:
        """Memory on the device. Raises RuntimeFault (R0207) where there is not enough."""
        return self._allocated("cudaMalloc", size)

    def free(self, address: int) -> None:
        """Gives memory on the device back."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def allocate_host(self, size: int) -> int:
        """Pinned memory of this process."""
        return self._allocated("cudaMallocHost", size)

    def free_host(self, address: int) -> None:
        """Gives pinned memory back."""
        self._call("cudaFreeHost", ctypes.c_void_p(address))

    def upload(self, to: int, source: int, size: int) -> None:
        """Copies bytes to the device, behind what the stream does already."""
        self._copy(to, source, size, _TO_DEVICE)

    def download(self, to: int, source: int, size: int) -> None:
        """Copies bytes from the device; they are there after `synchronize`."""
        self._copy(to, source, size, _TO_HOST)

    def copy(self, to: int, source: int, size: int) -> None:
        """Copies bytes on the device."""
        self._copy(to, source, size, _ON_DEVICE)

    def upload_aside(self, to: int, source: int, size: int) -> None:
        """Copies bytes of pinned memory to the device on a stream of its own."""
        self._call("cudaSetDevice", 0)  # a thread's own
        self._copy(to, source, size, _TO_DEVICE, self._aside)

    def mark_aside(self) -> Event:
        """The point at which all that was copied aside so far is there."""
        event = ctypes.c_void_p()
        self._call("cudaEventCreateWithFlags", ctypes.byref(event), _NO_TIMES)
        self._call("cudaEventRecord", event, ctypes.c_void_p(self._aside))
        return event

    def wait_for(self, event: Event) -> None:
        """The stream waits for an event."""
        self._call("cudaStreamWaitEvent", ctypes.c_void_p(self.stream), event, 0)
        self._call("cudaEventDestroy", event)

    def synchronize(self) -> None:
        """Waits until all is done. Raises RuntimeFault (R0520) where a kernel failed."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(self.stream))

    def finish(self) -> None:
        """Waits until the device has nothing to do."""
        self._call("cudaDeviceSynchronize")

    def run(self, work: Callable[[], None]) -> None:
        """Calls what launches kernels, on this GPU's stream. The current device is a thread's own, so it is set each time."""
        self._call("cudaSetDevice", 0)
        with self._use_stream(self.stream):
            work()

    def capture(self, work: Callable[[], None]) -> Graph:
        """The kernels that `work` launches, as a graph that starts them all at once."""
        self._call("cudaSetDevice", 0)
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cudaStreamBeginCapture", ctypes.c_void_p(self.stream), _THREAD_LOCAL)
        try:
            self.run(work)
        finally:
            status = self._library.cudaStreamEndCapture(ctypes.c_void_p(self.stream), ctypes.byref(graph))
        self._check("cudaStreamEndCapture", status)
        try:
            self._call("cudaGraphInstantiate", ctypes.byref(ready), graph, ctypes.c_ulonglong(0))
        finally:
            self._library.cudaGraphDestroy(graph)
        return ready

    def launch(self, graph: Graph) -> None:
        """Runs a captured graph."""
        self._call("cudaGraphLaunch", graph, ctypes.c_void_p(self.stream))

    def destroy(self, graph: Graph) -> None:
        """Gives a graph back."""
        self._call("cudaGraphExecDestroy", graph)

    def times(self, work: Sequence[Callable[[], None]]) -> list[float]:
        """Seconds that each of some pieces of work takes on the device, measured with events between them."""
        events = [ctypes.c_void_p() for _ in range(len(work) + 1)]
        for event in events:
            self._call("cudaEventCreate", ctypes.byref(event))
        try:
            self._record(events[0])
            for piece, event in zip(work, events[1:], strict=True):
                self.run(piece)
                self._record(event)
            self.synchronize()
            return [self._between(a, b) for a, b in itertools.pairwise(events)]
        finally:
            for event in events:
                self._call("cudaEventDestroy", event)

    def _record(self, event: ctypes.c_void_p) -> None:
        self._call("cudaEventRecord", event, ctypes.c_void_p(self.stream))

    def _between(self, first: ctypes.c_void_p, last: ctypes.c_void_p) -> float:
        milliseconds = ctypes.c_float()
        self._call("cudaEventElapsedTime", ctypes.byref(milliseconds), first, last)
        return milliseconds.value / 1e3

    def _allocated(self, function: str, size: int) -> int:
        address = ctypes.c_void_p()
        status = getattr(self._library, function)(ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        if status == _OUT_OF_MEMORY:
            self._library.cudaGetLastError()  # the next call is not about this
            where = "the GPU has" if function == "cudaMalloc" else "can be pinned"
            raise RuntimeFault(
                "R0207", f"{size / 2**20:,.0f} MB are needed, more than {where}", help="run smaller batches"
            )
        self._check(function, status)
        return address.value or 0

    def _new_stream(self) -> int:
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(stream), _NON_BLOCKING)
        return stream.value or 0

    def _copy(self, to: int, source: int, size: int, direction: int, stream: int | None = None) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(to),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size),
            direction,
            ctypes.c_void_p(self.stream if stream is None else stream),
        )

    def _call(self, function: str, *arguments: Any) -> None:
        self._check(function, getattr(self._library, function)(*arguments))

    def _check(self, function: str, status: int) -> None:
        if status:
            said = self._library.cudaGetErrorString(status).decode(errors="replace")
            raise RuntimeFault("R0520", f"the GPU reports: {said} ({function}, {status})")
