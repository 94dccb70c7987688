"""What a schedule rule is: it gives the loops of one fused kernel their order, tiles, vectors and threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tvm.s_tir import Schedule

from dlc.compiler.choices import Cut
from dlc.compiler.codegen.target import CpuTarget

ELEMENTWISE = "elementwise"
"""Anchor kind of a kernel in which no block carries `dlc.anchor` and none reduces: maps, views, pads, copies, updates."""

REDUCTION = "reduction"
"""Anchor kind of a kernel in which no block carries `dlc.anchor` and at least one reduces."""


@dataclass(frozen=True)
class Block:
    """One block of a kernel.

    `attributes` are those of the TE compute whose names start with `dlc.`, as Python values. `reduces`: it has reduction
    axes. `writes_result`: it writes a buffer of the caller, so it must stay.
    """

    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    reduces: bool = False
    writes_result: bool = False


@dataclass(frozen=True)
class KernelBlocks:
    """The blocks of one kernel, in program order, sorted by what they are to the anchor.

    `prologue` holds all blocks that the anchor needs (pads, element-wise producers, transforms), `epilogue` all others:
    element-wise blocks behind the anchor, the last of which writes the result. If `epilogue` is empty the anchor writes
    the result itself. `cut` is what measured best for the kernel, None where the rule's model has to choose. A kernel may have several blocks that write results (an optimizer's update).

    `kind` is the value of the anchor's `dlc.anchor` attribute ("conv2d"), or ELEMENTWISE (the anchor is then the last
    block) or REDUCTION (the last block that reduces).
    """

    kind: str
    prologue: tuple[Block, ...]
    anchor: Block
    epilogue: tuple[Block, ...]
    cut: Cut | None = None

    def __iter__(self) -> Iterator[Block]:
        return iter((*self.prologue, self.anchor, *self.epilogue))

    def where(self, **attributes: Any) -> tuple[Block, ...]:
        """The blocks whose `dlc.NAME` attribute has this value, for each given NAME."""
        return tuple(b for b in self if all(b.attributes.get(f"dlc.{k}") == v for k, v in attributes.items()))


class ScheduleRule(ABC):
    """Schedules the kernels of one or more anchor kinds.

    Rules are tried in the order of the target's list; the first whose `anchors` hold the kernel's kind and whose `apply`
    returns True has scheduled it. A kernel that no rule takes is an internal error.
    """

    anchors: ClassVar[frozenset[str]]
    specializes_batch_one: ClassVar[bool] = False
    """Compile a second kernel for a batch of one. Its function has the constant 1 where the general one has a variable."""

    def differs_alone(self, schedule: Schedule) -> bool:
        """Whether that kernel would be another than this one, which the rule has scheduled for any batch."""
        return self.specializes_batch_one

    @abstractmethod
    def apply(self, schedule: Schedule, blocks: KernelBlocks, target: CpuTarget) -> bool:
        """Schedules the kernel in place and returns True, or returns False having changed nothing.

        The function's root block is "root"; block names are unique in it and valid for `schedule.get_sblock`. The
        batch extent is a variable, unless the kernel is compiled for one batch size.
        """


def inline(schedule: Schedule, blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Inlines the blocks that only feed others, in program order. Returns those that write results and so remain."""
    for block in blocks:
        if not block.writes_result:
            schedule.compute_inline(schedule.get_sblock(block.name))
    return tuple(b for b in blocks if b.writes_result)
