"""The executor for GPUs: weights and intermediate tensors stay on the device, the whole program is launched as one graph.

For each batch size there is one arena on the device, with places for the inputs and outputs. The first run launches kernel by
kernel, which loads the code; the next is captured as a graph, and from then on a run is: inputs to the device, one launch,
outputs back. Inputs that lie on the device already are read where they are; for them a graph is captured for each set of
addresses that comes again. Inputs that are announced (`expect`) are copied while others are computed with.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from dlc.runtime.arrays import aligned_empty, check_inputs, check_output, element_type
from dlc.runtime.binding import PLANS, Kernel, variant
from dlc.runtime.cuda import CudaGpu, Gpu, Graph
from dlc.runtime.device_memory import Blocks, DeviceMemory
from dlc.runtime.device_tensor import DeviceArray, OnStream
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.executor import StepTime, step_times
from dlc.runtime.library import load_runtime
from dlc.runtime.memory import MemoryPlan, aligned, item_bytes, plan_memory, resolve_shape
from dlc.runtime.plan import BATCH, Program, TensorSpec
from dlc.runtime.staging import Places, Staging, view

_GRAPHS = 8
"""Graphs kept for each batch size: one for inputs from the host, others by the addresses of inputs on the device."""


@dataclass
class _Bound:
    """A batch size's memory: the arena's address, the places of inputs and outputs in it, and the host's pinned copies.

    `graphs` are by the addresses of the inputs; None where they came once, and were run kernel by kernel.
    """

    batch: int
    arena: int
    inputs: Staging
    outputs: list[int]
    host: int
    host_outputs: list[int]
    offsets: dict[int, int]
    graphs: OrderedDict[tuple[int, ...], Graph | None] = field(default_factory=OrderedDict)


class DeviceExecutor:
    """Runs a program on a GPU. `weights` are copied there once; `download` brings back what programs that train made of them.
    `memory` shares them with other programs, which run on the same GPU.

    Calls are made one after the other, from any thread. Inputs are numpy arrays or tensors by DLPack, on the host or on the GPU;
    where all tensors are on the GPU, `execute` returns `DeviceArray`s there.
    """

    def __init__(
        self,
        program: Program,
        function: Callable[[str], Kernel],
        weights: Mapping[str, np.ndarray],
        gpu: Gpu | None = None,
        memory: DeviceMemory | None = None,
    ) -> None:
        self.program = program
        self._owns_memory = memory is None
        self._memory = memory or DeviceMemory(gpu if gpu is not None else CudaGpu())
        self._gpu: Gpu = self._memory.gpu
        self._blocks = Blocks(self._gpu)
        self._tensor = load_runtime().from_dlpack
        self._kernels = {name: function(name) for s in program.steps for name in (s.kernel, s.kernel_one) if name}
        self._lock = threading.Lock()
        self._bound: OrderedDict[int, _Bound] = OrderedDict()
        self._weights: dict[str, int] = {}
        for spec in program.weights:
            array = weights.get(spec.name)
            if array is None or array.shape != spec.shape or array.dtype != element_type(spec.dtype):
                raise RuntimeFault(
                    "R0209", f"the program's weight {spec.name!r} is missing, or of another shape or type"
                )
            self._weights[spec.name] = self._memory.address(array)

    @property
    def threads(self) -> int:
        """The number of cores a call uses: one, which launches. Setting it changes nothing."""
        return 1

    @threads.setter
    def threads(self, count: int | None) -> None:
        pass

    def plan(self, batch: int) -> MemoryPlan:
        """The memory plan for a number of samples."""
        return plan_memory(self.program, batch)

    def run(self, inputs: Mapping[str, Any], outputs: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """The outputs by name, as new arrays, or in the arrays given for some of them."""
        names = [spec.name for spec in self.program.inputs]
        missing = [n for n in names if n not in inputs] or [n for n in inputs if n not in names]
        if missing:
            raise RuntimeFault("R0208", f"there is no value for, or no input {missing[0]!r}", help=f"pass {names}")
        given = [(outputs or {}).get(spec.name) for spec in self.program.outputs]
        results = self.execute([inputs[n] for n in names], given)
        return {spec.name: result for spec, result in zip(self.program.outputs, results, strict=True)}

    def execute(self, values: Sequence[Any], given: Sequence[np.ndarray | None] | None = None) -> list[Any]:
        """`run` by position: one value per input, in the program's order; the outputs in theirs."""
        with self._lock:
            tensors = [self._on_device(value) for value in values]
            on_device = bool(tensors) and all(
                t is not None or not s.shape for t, s in zip(tensors, self.program.inputs, strict=True)
            )
            checked, batch = self._checked(values, tensors)
            if batch == 0:
                raise RuntimeFault("R0205", "there are no samples", help="pass at least one")
            bound = self._bind(batch)
            addresses = self._stage(bound, checked, tensors, values)
            self._launch(bound, tuple(addresses))
            return self._arrays_on_device(bound) if on_device else self._arrays(bound, given)

    def expect(self, inputs: Mapping[str, Any]) -> None:
        """Begins to copy arrays to the device that a later run will be given, the same objects, for some of its inputs.

        They must not change until then. Where they do not fit, the run will say so.
        """
        named = {spec.name: (index, spec) for index, spec in enumerate(self.program.inputs)}
        arrays = {
            named[name][0]: array
            for name, array in inputs.items()
            if name in named and isinstance(array, np.ndarray) and array.ndim and _fits(named[name][1], array)
        }
        batch = self.program.batch
        if batch == BATCH:
            batch = max((len(a) for i, a in arrays.items() if self.program.inputs[i].shape[0] == BATCH), default=0)
        with self._lock:
            if (
                arrays
                and batch
                and all(a.shape == resolve_shape(self.program.inputs[i].shape, batch) for i, a in arrays.items())
            ):
                self._bind(batch).inputs.expect(arrays)

    def download(self, name: str) -> np.ndarray:
        """A weight as it is on the device now."""
        spec = next(s for s in self.program.weights if s.name == name)
        array = aligned_empty(spec.shape, spec.dtype)
        with self._lock:
            self._gpu.download(array.ctypes.data, self._weights[name], array.nbytes)
            self._gpu.synchronize()
        return array

    def profile(self, inputs: Mapping[str, Any], repeats: int = 10) -> list[StepTime]:
        """The time of each step on the device, the median of `repeats` runs after one that is not counted."""
        values = [inputs[spec.name] for spec in self.program.inputs]
        with self._lock:
            tensors = [self._on_device(value) for value in values]
            checked, batch = self._checked(values, tensors)
            if batch == 0 or repeats < 1:
                raise RuntimeFault("R0205", "a profile needs at least one sample and one run")
            bound = self._bind(batch)
            calls = self._calls(bound, self._stage(bound, checked, tensors, values))
            pieces = [lambda k=kernel, a=arguments: k(*a) for kernel, arguments in calls]
            times = [self._gpu.times(pieces) for _ in range(repeats + 1)]
        seconds = np.median(np.array(times[1:]), axis=0)
        return step_times(self.program, batch, seconds)

    def trim(self) -> None:
        """Gives the memory for all batch sizes back; weights stay."""
        with self._lock:
            self._blocks.trim()
            while self._bound:
                self._free(self._bound.popitem()[1])

    def close(self) -> None:
        """Gives all memory back. Nothing can be run afterwards."""
        self._blocks.close()
        self.trim()
        if self._owns_memory:
            self._memory.close()

    def __del__(self) -> None:
        with suppress(AttributeError, RuntimeFault):  # it was never made whole, or the device is gone
            self.close()

    def _on_device(self, value: Any) -> Any | None:
        """The tensor of a value that lies on the device, None for one on the host."""
        if isinstance(value, np.ndarray | np.generic | int | float) or not hasattr(value, "__dlpack_device__"):
            return None
        if int(value.__dlpack_device__()[0]) != self._gpu.kind:
            return None
        return self._tensor(OnStream(value, self._gpu.stream))

    def _checked(self, values: Sequence[Any], tensors: Sequence[Any | None]) -> tuple[list[Any], int]:
        """The values and the number of samples. Those on the device are checked by an array without memory of their shape."""
        stand_ins = []
        for value, tensor in zip(values, tensors, strict=True):
            if tensor is not None:
                kind = element_type(str(tensor.dtype))
                value = np.broadcast_to(np.zeros((), kind), tuple(tensor.shape))
                if not tensor.is_contiguous():
                    raise RuntimeFault(
                        "R0204", "an input on the GPU is not contiguous", help="pass tensor.contiguous()"
                    )
            stand_ins.append(value)
        checked, batch = check_inputs(self.program.inputs, stand_ins, self.program.batch)
        return list(checked), batch

    def _bind(self, batch: int) -> _Bound:
        bound = self._bound.get(batch)
        if bound is not None:
            self._bound.move_to_end(batch)
            return bound
        plan = plan_memory(self.program, batch)
        sizes = [aligned(_bytes(spec, batch)) for spec in (*self.program.inputs, *self.program.outputs)]
        starts = np.cumsum([0, *sizes]).tolist()
        peak = aligned(plan.peak)
        arena = self._gpu.allocate(peak + starts[-1])
        try:
            host = self._gpu.allocate_host(starts[-1])
        except RuntimeFault:
            self._gpu.free(arena)
            raise
        count = len(self.program.inputs)
        places = [arena + peak + start for start in starts[:-1]]
        pinned = [host + start for start in starts[:-1]]
        staging = Staging(self._gpu, sizes[:count], Places(places[:count], pinned[:count]))
        bound = _Bound(batch, arena, staging, places[count:], host, pinned[count:], dict(plan.offsets))
        self._bound[batch] = bound
        if len(self._bound) > PLANS:
            self._free(self._bound.popitem(last=False)[1])
        return bound

    def _free(self, bound: _Bound) -> None:
        bound.inputs.close()
        for graph in bound.graphs.values():
            if graph is not None:
                self._gpu.destroy(graph)
        self._gpu.free(bound.arena)
        self._gpu.free_host(bound.host)

    def _stage(
        self, bound: _Bound, values: Sequence[Any], tensors: Sequence[Any | None], given: Sequence[Any]
    ) -> list[int]:
        """Puts inputs from the host onto the device; the address of every input there. `given` are they as the caller has
        them, `values` as they fit the program."""
        places, there = bound.inputs.take(given)
        addresses = []
        for index, (value, tensor) in enumerate(zip(values, tensors, strict=True)):
            if tensor is not None and tensor.data_ptr() % 16 == 0:
                addresses.append(int(tensor.data_ptr()))
                continue
            addresses.append(places.device[index])
            if tensor is not None:
                self._gpu.copy(places.device[index], tensor.data_ptr(), value.nbytes)
            elif index not in there:
                view(places.host[index], value.shape, value.dtype)[...] = value
                self._gpu.upload(places.device[index], places.host[index], value.nbytes)
        return addresses

    def _launch(self, bound: _Bound, addresses: tuple[int, ...]) -> None:
        graph = bound.graphs.get(addresses)
        if graph is None:
            calls = self._calls(bound, addresses)

            def work() -> None:
                for kernel, arguments in calls:
                    kernel(*arguments)

            if addresses not in bound.graphs:
                self._gpu.run(work)
                bound.graphs[addresses] = None
                if len(bound.graphs) > _GRAPHS:
                    _, old = bound.graphs.popitem(last=False)
                    if old is not None:
                        self._gpu.synchronize()
                        self._gpu.destroy(old)
                return
            graph = bound.graphs[addresses] = self._gpu.capture(work)
        bound.graphs.move_to_end(addresses)
        self._gpu.launch(graph)

    def _calls(self, bound: _Bound, addresses: Sequence[int]) -> list[tuple[Kernel, list[Any]]]:
        """The kernels with their arguments, for inputs at these addresses."""
        places = {("input", s.name): a for s, a in zip(self.program.inputs, addresses, strict=True)}
        places |= {("output", s.name): a for s, a in zip(self.program.outputs, bound.outputs, strict=True)}
        places |= {("weight", name): a for name, a in self._weights.items()}
        tensors: dict[int, Any] = {}

        def tensor(index: int) -> Any:
            if index not in tensors:
                slot = self.program.slots[index]
                address = (
                    bound.arena + bound.offsets[slot.storage]
                    if slot.place == "arena"
                    else places[slot.place, slot.name]
                )
                shape = resolve_shape(slot.shape, bound.batch)
                tensors[index] = self._tensor(DeviceArray(address, shape, slot.dtype, self._gpu.kind))
            return tensors[index]

        return [
            (self._kernels[variant(s.kernel, s.kernel_one, bound.batch)], [tensor(i) for i in s.slots])
            for s in self.program.steps
        ]

    def _arrays(self, bound: _Bound, given: Sequence[np.ndarray | None] | None) -> list[np.ndarray]:
        """The outputs on the host."""
        for spec, source, place in zip(self.program.outputs, bound.outputs, bound.host_outputs, strict=True):
            self._gpu.download(place, source, _bytes(spec, bound.batch))
        self._gpu.synchronize()
        results = []
        wanted = given if given is not None else [None] * len(bound.outputs)
        for spec, place, array in zip(self.program.outputs, bound.host_outputs, wanted, strict=True):
            shape = resolve_shape(spec.shape, bound.batch)
            target = aligned_empty(shape, spec.dtype) if array is None else check_output(spec, array, bound.batch)
            target[...] = view(place, shape, element_type(spec.dtype))
            results.append(target)
        return results

    def _arrays_on_device(self, bound: _Bound) -> list[DeviceArray]:
        """The outputs in memory of their own on the device."""
        results = []
        for spec, source in zip(self.program.outputs, bound.outputs, strict=True):
            size = _bytes(spec, bound.batch)
            address = self._blocks.take(size)
            shape = resolve_shape(spec.shape, bound.batch)
            results.append(DeviceArray(address, shape, spec.dtype, self._gpu.kind, self._blocks.giver(size)))
            self._gpu.copy(address, source, size)
        self._gpu.synchronize()
        return results


def _bytes(spec: TensorSpec, batch: int) -> int:
    return prod(resolve_shape(spec.shape, batch)) * item_bytes(spec.dtype)


def _fits(spec: TensorSpec, array: np.ndarray) -> bool:
    return array.dtype == element_type(spec.dtype) and array.ndim == len(spec.shape)
