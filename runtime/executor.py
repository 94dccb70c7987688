"""The executor: runs a program's kernels on arrays, with everything that can be decided beforehand decided beforehand.

For each batch size there is a memory plan; for each call that runs at the same time a workspace: one arena, and the list
of kernel calls with their arguments bound to it. Running is then a loop over that list: in machine code where the program has
a driver, so that Python's global lock is let go once for the whole run and not once for each kernel; else in Python. Small
inputs and outputs (up to `binding.SMALL` bytes) live in the workspace and are copied, which costs less than binding; large
ones are bound to the caller's arrays for the call.

A driver is a function (table's address, steps) -> the first step that failed, or -1. The table has three 8-byte words for
each step: the handle of the kernel, the address of its arguments, their number; an argument is a `TVMFFIAny`, two words.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from dlc.runtime import threads as pool
from dlc.runtime.arrays import aligned_empty, check_inputs, check_output, element_type, is_aligned
from dlc.runtime.binding import PLANS, Binder, Bound, Kernel, Workspace, variant
from dlc.runtime.device import request_tiles, require_device
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.library import load_runtime
from dlc.runtime.memory import MemoryPlan, plan_memory, resolve_shape, slot_bytes
from dlc.runtime.names import suggest
from dlc.runtime.plan import BATCH, Program


@dataclass(frozen=True)
class StepTime:
    """What one step of a program took: median seconds of a run, its multiplications and additions, and `moved`, the bytes of
    the tensors that it reads and writes."""

    layer: str
    what: str
    kernel: str
    seconds: float
    flops: int
    moved: int


def step_times(program: Program, batch: int, seconds: np.ndarray) -> list[StepTime]:
    """What is known of each step beside the seconds that it took on `batch` samples."""
    return [
        StepTime(
            s.layer,
            s.what,
            variant(s.kernel, s.kernel_one, batch),
            float(t),
            s.flops * batch + s.flops_fixed,
            sum(slot_bytes(program.slots[i], batch) for i in s.slots),
        )
        for s, t in zip(program.steps, seconds, strict=True)
    ]


class Executor:
    """Runs a program. `function` gives a kernel by name; `weights` hold an array for each of the program's weights, in the
    form that kernels read, contiguous and aligned to 64 bytes; programs that train update them in place.

    Any number of threads may call `run` at once (programs that update weights: one). `threads` is the number of cores a
    call may use, None for all. Calls take their memory from the system, or use `arena`, bytes aligned to 64: then only one
    may run at a time, of this and of every other program that has the same.
    """

    def __init__(
        self,
        program: Program,
        function: Callable[[str], Kernel],
        weights: Mapping[str, np.ndarray],
        threads: int | None = None,
        arena: np.ndarray | None = None,
    ) -> None:
        require_device(program.device)
        if program.tiles:
            request_tiles()
        self.program = program
        self._arena = arena
        tensor = load_runtime().from_dlpack
        self._threads = pool.resolve(threads)
        kernels = {name: function(name) for s in program.steps for name in (s.kernel, s.kernel_one) if name}
        self._driver: Callable[[int, int], int] | None = function(program.driver) if program.driver else None
        self._binder = Binder(program, kernels, _check_weights(program, weights), tensor, self._driver is not None)
        self._input_number = {spec.name: i for i, spec in enumerate(program.inputs)}
        self._output_number = {spec.name: i for i, spec in enumerate(program.outputs)}
        self._input_types = [element_type(spec.dtype) for spec in program.inputs]
        self._output_types = [element_type(spec.dtype) for spec in program.outputs]
        self._leading = next((i for i, s in enumerate(program.inputs) if s.shape and s.shape[0] == BATCH), -1)
        self._fixed_batch = 1 if program.batch == BATCH else program.batch
        self._shapes: dict[int, tuple[list[tuple[int, ...]], list[tuple[int, ...]]]] = {}
        self._plans: OrderedDict[int, MemoryPlan] = OrderedDict()
        self._free: deque[Workspace] = deque(maxlen=max(4, pool.available()))
        self._lock = threading.Lock()

    @property
    def threads(self) -> int:
        """The number of cores a call may use."""
        return self._threads

    @threads.setter
    def threads(self, count: int | None) -> None:
        self._threads = pool.resolve(count)

    def plan(self, batch: int) -> MemoryPlan:
        """The memory plan for a number of samples."""
        with self._lock:
            plan = self._plans.get(batch)
            if plan is None:
                plan = self._plans[batch] = plan_memory(self.program, batch)
                if len(self._plans) > PLANS:
                    self._plans.popitem(last=False)
            else:
                self._plans.move_to_end(batch)
            return plan

    def run(self, inputs: Mapping[str, Any], outputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The outputs by name, as new arrays, or in the arrays given for some or all of them.

        Raises RuntimeFault for a missing or unknown name and for an array of the wrong type or shape.
        """
        values = _in_order(self._input_number, inputs, "input")
        given: list[Any] | None = None
        if outputs:
            given = _in_order(self._output_number, outputs, "output", complete=False)
        results = self.execute(values, given)
        return {spec.name: result for spec, result in zip(self.program.outputs, results, strict=True)}

    def execute(self, values: Sequence[Any], given: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        """`run` by position: one value per input, in the program's order; the outputs in theirs."""
        batch = self._quick_batch(values)
        if batch < 0:
            values, batch = check_inputs(self.program.inputs, values, self.program.batch)
            if batch == 0:
                return self._nothing(given)
            self._remember_shapes(batch)
        try:
            workspace = self._free.pop()
        except IndexError:
            workspace = Workspace(self._arena)
        bound = workspace.bound.get(batch) or self._binder.bind(workspace, self.plan(batch))
        try:
            for view, value in zip(bound.staged, values, strict=True):
                if view is not None:
                    view[...] = value
            if bound.loose_inputs:
                self._binder.bind_inputs(workspace, bound, values)
            if given is not None or bound.loose_outputs:
                return self._run_to(bound, batch, given)
            self._launch(bound)
            return [view.copy() for view in bound.results]  # type: ignore[union-attr]  # none is loose
        finally:
            for loose in bound.loose_inputs:
                loose.release()
            self._free.append(workspace)

    def profile(self, inputs: Mapping[str, Any], repeats: int = 10) -> list[StepTime]:
        """The time of each step, the median of `repeats` runs after one that is not counted.

        Steps run as in `run`, with the clock read in between (about 0.1 us each).
        """
        values, batch = check_inputs(
            self.program.inputs, _in_order(self._input_number, inputs, "input"), self.program.batch
        )
        if batch == 0 or repeats < 1:
            raise RuntimeFault("R0205", "a profile needs at least one sample and one run")
        self._remember_shapes(batch)
        workspace = Workspace(self._arena)
        bound = self._binder.bind(workspace, self.plan(batch))
        for view, value in zip(bound.staged, values, strict=True):
            if view is not None:
                view[...] = value
        self._binder.bind_inputs(workspace, bound, values)
        targets = [aligned_empty(s, t) for s, t in zip(self._shapes[batch][1], self._output_types, strict=True)]
        self._binder.bind_outputs(bound, targets)
        times = np.empty((repeats + 1, len(bound.calls)))
        pool.enter(self._threads)
        try:
            for row in times:
                for number, (kernel, arguments) in enumerate(bound.calls):
                    start = perf_counter()
                    kernel(*arguments)
                    row[number] = perf_counter() - start
        finally:
            pool.leave()
        seconds = np.median(times[1:], axis=0)
        return step_times(self.program, batch, seconds)

    def trim(self) -> None:
        """Gives the memory of calls that are over back to the system; the next call takes what it needs again."""
        self._free.clear()

    def _launch(self, bound: Bound) -> None:
        pool.enter(self._threads)
        try:
            if self._driver is None:
                for kernel, arguments in bound.calls:
                    kernel(*arguments)
                return
            failed = self._driver(bound.table_address, len(bound.calls))
            if failed >= 0:  # called from Python, the kernel raises what it has to say (no memory for its workspace)
                kernel, arguments = bound.calls[failed]
                kernel(*arguments)
        finally:
            pool.leave()

    def _quick_batch(self, values: Sequence[Any]) -> int:
        """The number of samples if every value is already just right, as it is in nearly every call; else -1."""
        if self._leading < 0:
            batch = self._fixed_batch
        else:
            leading = values[self._leading]
            if type(leading) is not np.ndarray or not leading.ndim:
                return -1
            batch = leading.shape[0]
        known = self._shapes.get(batch)
        if known is None:
            return -1
        for value, shape, kind in zip(values, known[0], self._input_types, strict=True):
            if type(value) is np.ndarray or isinstance(value, np.generic):
                if value.dtype is not kind or value.shape != shape:
                    return -1
            elif shape or not (
                (type(value) is float and kind.kind == "f")
                or (type(value) is int and kind.kind in "iu" and 0 <= value < 2**31)
            ):
                return -1
        return batch

    def _remember_shapes(self, batch: int) -> None:
        if batch not in self._shapes:
            if len(self._shapes) >= 1024:
                self._shapes = {}
            inputs = [resolve_shape(spec.shape, batch) for spec in self.program.inputs]
            self._shapes[batch] = inputs, [resolve_shape(spec.shape, batch) for spec in self.program.outputs]

    def _nothing(self, given: Sequence[np.ndarray | None] | None) -> list[np.ndarray]:
        """The outputs for no samples at all."""
        results = []
        for number, spec in enumerate(self.program.outputs):
            if not spec.shape or spec.shape[0] != BATCH:
                raise RuntimeFault("R0205", "there are no samples", help="pass at least one")
            array = given[number] if given is not None else None
            results.append(
                check_output(spec, array, 0) if array is not None else aligned_empty((0, *spec.shape[1:]), spec.dtype)
            )
        return results

    def _run_to(self, bound: Bound, batch: int, given: Sequence[np.ndarray | None] | None) -> list[np.ndarray]:
        """Runs with outputs bound to the caller's arrays, or to new ones."""
        wanted = list(given) if given is not None else [None] * len(bound.results)
        targets: list[np.ndarray] = []
        for number, (spec, array) in enumerate(zip(self.program.outputs, wanted, strict=True)):
            if array is not None and is_aligned(check_output(spec, array, batch)):
                targets.append(array)
            elif bound.results[number] is not None:
                targets.append(bound.results[number])  # type: ignore[arg-type]  # just tested
            else:
                targets.append(aligned_empty(self._shapes[batch][1][number], self._output_types[number]))
        self._binder.bind_outputs(bound, targets)
        try:
            self._launch(bound)
        finally:
            for loose in bound.loose_outputs:
                loose.release()
        results = []
        for view, array, target in zip(bound.results, wanted, targets, strict=True):
            source = target if view is None else view
            if array is None:
                results.append(source if view is None else source.copy())
                continue
            if array is not source:
                array[...] = source
            results.append(array)
        return results


def _in_order(numbers: Mapping[str, int], values: Mapping[str, Any], noun: str, *, complete: bool = True) -> list[Any]:
    """The values in the program's order. Raises RuntimeFault for unknown and, if `complete`, for missing names."""
    unknown = [name for name in values if name not in numbers]
    if unknown:
        raise RuntimeFault("R0208", f"there is no {noun} {unknown[0]!r}", help=suggest(unknown[0], list(numbers)))
    missing = [name for name in numbers if name not in values]
    if missing and complete:
        have = ", ".join(repr(n) for n in numbers)
        raise RuntimeFault("R0208", f"{noun} {missing[0]!r} is missing", help=f"the {noun}s are {have}")
    return [values.get(name) for name in numbers]


def _check_weights(program: Program, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    checked = {}
    for spec in program.weights:
        array = weights.get(spec.name)
        if array is None:
            raise RuntimeFault("R0209", f"the program's weight {spec.name!r} is missing")
        if array.shape != spec.shape or array.dtype != element_type(spec.dtype):
            raise RuntimeFault(
                "R0209",
                f"weight {spec.name!r} must be {spec.dtype} {list(spec.shape)}, got {array.dtype} {list(array.shape)}",
            )
        if not is_aligned(array) or not array.flags.writeable:
            raise ValueError(f"weight {spec.name!r} must be contiguous, writable and aligned to 64 bytes")
        checked[spec.name] = array
    return checked
