"""Binding: a program's kernel calls with all their arguments in place, for one batch size in one workspace."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from dlc.runtime.arrays import aligned_empty, element_type, exportable, is_aligned, writable_alias
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.memory import MemoryPlan, aligned, resolve_shape
from dlc.runtime.plan import Program, Slot

SMALL = 16 * 1024
"""Bytes up to which an input or output is copied rather than bound: the copy takes about a microsecond."""

PLANS = 16
"""Batch sizes whose plans and bound calls are kept; the oldest goes first."""

_TENSOR = 70  # TVMFFITypeIndex.kTVMFFITensor, in the first word of an argument

Kernel = Callable[..., Any]
Arguments = list[Any]


class Loose:
    """An input or output that is bound anew for each call: for each shape it is seen as, the arguments that hold it (a
    step's list and the place in it, and the place in the driver's words)."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.places: dict[tuple[int, ...], list[tuple[Arguments, int, int]]] = {}

    def release(self) -> None:
        """Lets go of the caller's array."""
        for places in self.places.values():
            for arguments, position, _ in places:
                arguments[position] = None


class Bound:
    """The calls of one workspace for one batch size."""

    def __init__(self) -> None:
        self.calls: list[tuple[Kernel, Arguments]] = []
        self.words: np.ndarray | None = None  # the driver's arguments, [arguments of all steps, 2]
        self.table: np.ndarray | None = None  # the driver's table, [steps, 3]
        self.table_address = 0
        self.staged: list[np.ndarray | None] = []  # per input: where to copy it, None if bound
        self.results: list[np.ndarray | None] = []  # per output: where it arrives, None if bound
        self.loose_inputs: list[Loose] = []
        self.loose_outputs: list[Loose] = []

    def fill_table(self) -> None:
        """Writes the calls in the form that a driver reads."""
        counts = [len(arguments) for _, arguments in self.calls]
        self.words = np.empty((sum(counts), 2), np.int64)
        self.words[:, 0] = _TENSOR
        self.words[:, 1] = [0 if t is None else t.__chandle__() for _, arguments in self.calls for t in arguments]
        starts = self.words.ctypes.data + self.words.itemsize * 2 * (np.cumsum(counts) - counts)
        handles = [kernel.__chandle__() for kernel, _ in self.calls]  # type: ignore[attr-defined]  # tvm_ffi's functions
        self.table = np.array([handles, starts, counts], np.int64).T.copy()
        self.table_address = self.table.ctypes.data


class Workspace:
    """The memory of one call at a time: the arena, which grows to the largest batch seen, and the calls bound to it.

    It begins as `arena`, bytes aligned to 64, which may be larger than what is needed.
    """

    def __init__(self, arena: np.ndarray | None = None) -> None:
        self.arena = aligned_empty((0,), np.dtype(np.uint8)) if arena is None else arena
        self.bound: OrderedDict[int, Bound] = OrderedDict()
        self.copies: dict[int, np.ndarray] = {}  # aligned copies of large inputs that are not aligned themselves

    def view(self, start: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """A part of the arena as an array."""
        kind = element_type(dtype)
        return self.arena[start : start + prod(shape) * kind.itemsize].view(kind).reshape(shape)

    def reserve(self, size: int, batch: int) -> None:
        """Grows the arena to `size` bytes if it is smaller; what was bound to it is dropped then."""
        if size <= self.arena.nbytes:
            return
        self.bound.clear()
        try:
            self.arena = aligned_empty((size,), np.dtype(np.uint8))
        except MemoryError as error:
            raise RuntimeFault(
                "R0207",
                f"a batch of {batch} needs {size / 2**20:,.0f} MB, more than there is",
                help="run smaller batches",
            ) from error


def variant(kernel: str, kernel_one: str, batch: int) -> str:
    """The name of the kernel that serves a batch."""
    return kernel_one if batch == 1 and kernel_one else kernel


@dataclass(frozen=True)
class Binder:
    """Binds a program's calls: `tensor` makes what kernels take of an aligned array."""

    program: Program
    kernels: Mapping[str, Kernel]
    weights: Mapping[str, np.ndarray]
    tensor: Callable[[np.ndarray], Any]
    has_driver: bool

    def bind(self, workspace: Workspace, plan: MemoryPlan) -> Bound:
        """The calls for a batch size in a workspace, with all arguments but those of large inputs and outputs."""
        program, batch = self.program, plan.batch
        outer = (*program.inputs, *program.outputs)
        small = _small_sizes(program, batch)
        starts = np.cumsum([aligned(plan.peak), *small]).tolist()
        workspace.reserve(starts[-1], batch)
        bound = Bound()
        views = [
            workspace.view(start, resolve_shape(spec.shape, batch), spec.dtype) if size else None
            for spec, size, start in zip(outer, small, starts[:-1], strict=True)
        ]
        bound.staged, bound.results = views[: len(program.inputs)], views[len(program.inputs) :]
        named = {("input", s.name): (i, bound.staged[i]) for i, s in enumerate(program.inputs)}
        named |= {("output", s.name): (i, bound.results[i]) for i, s in enumerate(program.outputs)}
        tensors = [self._slot_tensor(slot, workspace, plan, named) for slot in program.slots]
        loose: dict[tuple[str, str], Loose] = {}
        word = 0
        for step in program.steps:
            arguments = [tensors[index] for index in step.slots]
            bound.calls.append((self.kernels[variant(step.kernel, step.kernel_one, batch)], arguments))
            for position, index in enumerate(step.slots):
                slot = program.slots[index]
                if tensors[index] is None:
                    key = slot.place, slot.name
                    entry = loose.setdefault(key, Loose(named[key][0]))
                    shape = resolve_shape(slot.shape, batch)
                    entry.places.setdefault(shape, []).append((arguments, position, word + position))
            word += len(arguments)
        bound.loose_inputs = [entry for (place, _), entry in loose.items() if place == "input"]
        bound.loose_outputs = [entry for (place, _), entry in loose.items() if place == "output"]
        if self.has_driver:
            bound.fill_table()
        workspace.bound[batch] = bound
        if len(workspace.bound) > PLANS:
            workspace.bound.popitem(last=False)
        return bound

    def bind_inputs(self, workspace: Workspace, bound: Bound, values: Sequence[np.ndarray]) -> None:
        """Binds the large inputs for a call: the caller's arrays, or aligned copies of those that kernels cannot read."""
        for loose in bound.loose_inputs:
            array = values[loose.index]
            if is_aligned(array):
                array = writable_alias(array)
            else:
                copy = workspace.copies.get(loose.index)
                if copy is None or copy.shape != array.shape:
                    copy = workspace.copies[loose.index] = aligned_empty(array.shape, array.dtype)
                copy[...] = array
                array = copy
            self._fill(bound, loose, array)

    def bind_outputs(self, bound: Bound, targets: Sequence[np.ndarray]) -> None:
        """Binds the large outputs for a call to aligned arrays, one for each output of the program."""
        for loose in bound.loose_outputs:
            self._fill(bound, loose, targets[loose.index])

    def _fill(self, bound: Bound, loose: Loose, array: np.ndarray) -> None:
        for shape, places in loose.places.items():
            tensor = self.tensor(exportable(array).reshape(shape))
            for arguments, position, word in places:
                arguments[position] = tensor
                if bound.words is not None:
                    bound.words[word, 1] = tensor.__chandle__()

    def _slot_tensor(
        self,
        slot: Slot,
        workspace: Workspace,
        plan: MemoryPlan,
        named: Mapping[tuple[str, str], tuple[int, np.ndarray | None]],
    ) -> Any:
        """The tensor of a slot; None if it is bound for each call, or if no step uses it."""
        shape = resolve_shape(slot.shape, plan.batch)
        if slot.place == "weight":
            return self.tensor(exportable(self.weights[slot.name]).reshape(shape))
        if slot.place == "arena":
            start = plan.offsets.get(slot.storage)
            return None if start is None else self.tensor(exportable(workspace.view(start, shape, slot.dtype)))
        _, view = named[slot.place, slot.name]
        return None if view is None else self.tensor(exportable(view).reshape(shape))


def arena_bytes(program: Program, plan: MemoryPlan) -> int:
    """What a call needs: the tensors of the plan, and the small inputs and outputs."""
    return aligned(plan.peak) + sum(_small_sizes(program, plan.batch))


def _small_sizes(program: Program, batch: int) -> list[int]:
    return [_small_size(spec.shape, spec.dtype, batch) for spec in (*program.inputs, *program.outputs)]


def _small_size(shape: tuple[int, ...], dtype: str, batch: int) -> int:
    """Bytes to set aside for an input or output, 0 if it is too large to be copied."""
    size = prod(resolve_shape(shape, batch)) * element_type(dtype).itemsize
    return aligned(size) if size <= SMALL else 0
