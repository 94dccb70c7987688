"""The program: which kernel runs on which tensors, in which order. Written by the compiler, run by the runtime."""

from __future__ import annotations

from typing import Literal

import msgspec

from dlc.runtime.layout import Layout, Transform

BATCH = -1
"""Stands for the number of samples in a shape of the plan; only the first dimension may be it."""

AVERAGE = "average"
"""The name of a weight's average among its states ("c1.weight@average"); evaluation reads it in the weight's place."""

Place = Literal["input", "output", "weight", "arena"]


class Slot(msgspec.Struct, frozen=True):
    """One tensor that kernels read or write, always contiguous.

    `place` says who owns its memory: the caller ("input", "output": `name` says which), the weights ("weight": `name`),
    or the arena ("arena": slots with the same `storage` number share memory, e.g. a reshaped view).
    An output or input slot may be listed under several shapes (views of the same memory).
    """

    shape: tuple[int, ...]
    dtype: str
    place: Place
    name: str = ""
    storage: int = -1


class Step(msgspec.Struct, frozen=True):
    """One kernel call: `kernel(*slots)`; the last `results` of the slots are written, the others read.

    A written slot of place "weight" is an update in place. `kernel_one` is the variant for a batch of one (empty: the
    same kernel serves). `layer` names the layer, `what` the fused ops ("conv2d+add+relu"); `flops` counts multiplications
    and additions for one sample (`flops_fixed`: independent of the batch).
    """

    kernel: str
    slots: tuple[int, ...]
    results: int
    kernel_one: str = ""
    layer: str = ""
    what: str = ""
    flops: int = 0
    flops_fixed: int = 0


class TensorSpec(msgspec.Struct, frozen=True):
    """An input or output: name, shape as the language shows it with BATCH first (scalars: ()), element type."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class WeightSpec(msgspec.Struct, frozen=True):
    """A tensor that lives between runs, in the form that kernels read. `layout` maps the canonical form to it; with a
    `transform` it is made of another weight when an artifact is opened, and stored nowhere.

    `role`: "parameter" (trained), "statistic" (running mean), "state" (optimizer), "derived" (folded at compile time).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: Layout | None = None
    role: str = "parameter"
    transform: Transform | None = None


class Program(msgspec.Struct, frozen=True):
    """Everything the runtime needs besides the machine code and the weights' bytes.

    `batch` is the one batch size that this program serves, or BATCH for any. Steps run in order; the arena's offsets
    are planned for each batch size from the steps (a storage lives from its first to its last use). `driver` names a function
    in the code that runs a whole table of steps in one call (see the executor); empty: they are called one by one. `tiles`: its
    kernels use the processor's matrix unit, which a process has to ask the system for.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: tuple[WeightSpec, ...]
    slots: tuple[Slot, ...]
    steps: tuple[Step, ...]
    batch: int = BATCH
    device: Literal["cpu", "cuda"] = "cpu"
    driver: str = ""
    tiles: bool = False
