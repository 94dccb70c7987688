"""The calls that a GPU is driven by, on a library that stands in for NVIDIA's runtime and writes down what it is asked for."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from dlc.runtime import cuda
from dlc.runtime.errors import RuntimeFault


class Library:
    """Every function gives 0, or what `fails` says; those that make something write a new number to their first argument."""

    def __init__(self) -> None:
        self.called: list[tuple[str, tuple[Any, ...]]] = []
        self.fails: dict[str, int] = {}
        self.made = 4096
        self.cudaGetErrorString = lambda status: f"trouble {status}".encode()

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.called.append((name, arguments))
            status = self.fails.get(name, 0)
            makes = ("cudaMalloc", "cudaMallocHost", "cudaStreamCreateWithFlags", "cudaGraphInstantiate")
            if status == 0 and (name in makes or name.startswith("cudaEventCreate")):
                self.made += 16
                arguments[0]._obj.value = self.made  # of ctypes.byref
            return status

        return call

    def names(self) -> list[str]:
        return [name for name, _ in self.called]


class Stream:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        pass


class Ffi:
    """What is needed of tvm_ffi."""

    @staticmethod
    def device(kind: str, number: int) -> tuple[str, int]:
        return kind, number

    @staticmethod
    def use_raw_stream(device: Any, stream: int) -> Stream:
        return Stream()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    monkeypatch.setattr(cuda, "load_cuda", lambda: made)
    monkeypatch.setattr(cuda, "import_tvm_ffi", lambda: Ffi)
    return made


def streams_of(called: list[tuple[str, tuple[Any, ...]]], name: str) -> list[int | None]:
    return [arguments[-1].value for found, arguments in called if found == name]


def test_copies_aside_have_a_stream_of_their_own_that_the_other_waits_for(library: Library) -> None:
    gpu = cuda.CudaGpu()

    gpu.upload(1, 2, 3)
    gpu.upload_aside(4, 5, 6)
    event = gpu.mark_aside()
    gpu.wait_for(event)
    own, aside = streams_of(library.called, "cudaMemcpyAsync")
    assert own == gpu.stream and aside not in (own, None, 0)
    assert streams_of(library.called, "cudaEventRecord") == [aside]
    waits = next(arguments for name, arguments in library.called if name == "cudaStreamWaitEvent")
    assert waits[0].value == gpu.stream and waits[1] is event
    assert library.names()[-1] == "cudaEventDestroy"


def test_too_little_memory_is_a_fault_of_its_own_and_is_forgotten_by_the_runtime(library: Library) -> None:
    gpu = cuda.CudaGpu()
    library.fails = {"cudaMalloc": 2, "cudaMallocHost": 2}

    with pytest.raises(RuntimeFault, match=r"R0207.*3 MB are needed, more than the GPU has[\s\S]*smaller batches"):
        gpu.allocate(3 * 2**20)
    assert library.names()[-1] == "cudaGetLastError"
    with pytest.raises(RuntimeFault, match=r"R0207.*more than can be pinned"):
        gpu.allocate_host(1)


def test_what_the_gpu_reports_is_told_in_its_words(library: Library) -> None:
    gpu = cuda.CudaGpu()
    library.fails = {"cudaStreamSynchronize": 700}

    with pytest.raises(RuntimeFault, match=r"R0520.*trouble 700 \(cudaStreamSynchronize, 700\)"):
        gpu.synchronize()


def test_a_capture_that_fails_is_ended_and_leaves_nothing_behind(library: Library) -> None:
    gpu = cuda.CudaGpu()

    def fails() -> None:
        raise ValueError("a kernel refuses its arguments")

    with pytest.raises(ValueError, match="refuses"):
        gpu.capture(fails)
    assert library.names()[-1] == "cudaStreamEndCapture"
    library.fails = {"cudaGraphInstantiate": 1}
    with pytest.raises(RuntimeFault, match="R0520"):
        gpu.capture(lambda: None)
    assert library.names()[-1] == "cudaGraphDestroy"


def test_a_captured_graph_is_launched_on_the_stream(library: Library) -> None:
    gpu = cuda.CudaGpu()
    graph = gpu.capture(lambda: None)
    gpu.launch(graph)
    gpu.destroy(graph)

    assert isinstance(graph, ctypes.c_void_p)
    assert library.names()[-5:] == [
        "cudaStreamEndCapture",
        "cudaGraphInstantiate",
        "cudaGraphDestroy",
        "cudaGraphLaunch",
        "cudaGraphExecDestroy",
    ]
