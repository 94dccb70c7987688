"""Where a recipe is trained: on this machine's processor, or on a GPU with a copy of every array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dlc.runtime.arrays import aligned_copy
from dlc.runtime.cuda import CudaGpu, Gpu
from dlc.runtime.device import require_device
from dlc.runtime.device_executor import DeviceExecutor
from dlc.runtime.device_memory import DeviceMemory
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.executor import Executor
from dlc.runtime.library import load_code

if TYPE_CHECKING:
    from dlc.compiler.codegen import Compiled
    from dlc.compiler.codegen.target import CpuTarget, CudaTarget

AnyExecutor = Executor | DeviceExecutor


class Placement(Protocol):
    """What makes executors of compiled programs that work on the same arrays."""

    def executor(self, compiled: Compiled, arrays: Mapping[str, np.ndarray], arena: np.ndarray) -> AnyExecutor:
        """Runs a program on shared arrays, and on constants of its own. `arena`, uint8 [bytes], is the memory for activations
        that programs on the processor share, as one runs at a time."""

    def fetch(self) -> None:
        """Brings the arrays up to date with what programs made of them."""

    def push(self, arrays: Iterable[np.ndarray] | None = None) -> None:
        """Lets programs see what the arrays hold, some or all of them."""

    def expect(self, executor: AnyExecutor, inputs: Mapping[str, Any]) -> None:
        """Says what an executor will be given next."""


class OnProcessor:
    """Programs work on the arrays themselves."""

    def __init__(self, threads: int | None) -> None:
        self._threads = threads

    def executor(self, compiled: Compiled, arrays: Mapping[str, np.ndarray], arena: np.ndarray) -> Executor:
        """Runs a program on the arrays."""
        return Executor(compiled.program, compiled.function, _weights(compiled, arrays), self._threads, arena)

    def fetch(self) -> None:
        """They are up to date."""

    def push(self, arrays: Iterable[np.ndarray] | None = None) -> None:
        """Programs see them."""

    def expect(self, executor: AnyExecutor, inputs: Mapping[str, Any]) -> None:
        """Nothing has to be brought anywhere."""


class OnGpu:
    """Programs work on copies of the arrays on a GPU."""

    def __init__(self, gpu: Gpu) -> None:
        self.memory = DeviceMemory(gpu)

    def executor(self, compiled: Compiled, arrays: Mapping[str, np.ndarray], arena: np.ndarray) -> DeviceExecutor:
        """Runs a program on the copies, in memory on the GPU."""
        function = load_code(compiled.library()) if compiled.program.device == "cuda" else compiled.function
        return DeviceExecutor(compiled.program, function, _weights(compiled, arrays), memory=self.memory)

    def fetch(self) -> None:
        """Copies all arrays from the GPU."""
        self.memory.download()

    def push(self, arrays: Iterable[np.ndarray] | None = None) -> None:
        """Copies arrays to the GPU."""
        self.memory.upload(arrays)

    def expect(self, executor: AnyExecutor, inputs: Mapping[str, Any]) -> None:
        """Begins to copy inputs to the GPU."""
        if isinstance(executor, DeviceExecutor):
            executor.expect(inputs)


def placement(target: CpuTarget | CudaTarget, threads: int | None) -> OnProcessor | OnGpu:
    """Where code for a target runs on this machine. Raises RuntimeFault (R0107, R0108) where it does not."""
    require_target(target)
    return OnGpu(CudaGpu()) if target.device == "cuda" else OnProcessor(threads)


def require_target(target: CpuTarget | CudaTarget) -> None:
    """Raises RuntimeFault where recipes cannot be trained with code for a target: on another processor than this machine's, or
    on a GPU that it does not have."""
    if target.device == "cpu" and target.name != "cpu":
        raise RuntimeFault(
            "R0107",
            f"code for {target.name} may not run on this machine",
            help="train with --target cpu or --target cuda",
        )
    require_device(target.device, target.name)


def _weights(compiled: Compiled, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Shared arrays, and constants of a program's own: two programs may give different ones the same name."""
    constants = {name: aligned_copy(array) for name, array in compiled.constants.items()}
    return {s.name: constants[s.name] if s.name in constants else arrays[s.name] for s in compiled.program.weights}
