"""The choices that cost models make for a kernel, as values; and `Choices`, those that measurements make in the models' place.

Every choice is a frozen dataclass. What measured better than the model's choice for a workload on this machine is kept under
the workload's name (see `codegen.tuning`); whoever chooses asks `Choices` first, then the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Choice:
    """A decision about how something is computed; its text says what was decided."""


@dataclass(frozen=True)
class Form(Choice):
    """How a convolution of stride 1 is computed: by Winograd's tiles of `tile` x `tile` results, or directly (0)."""

    tile: int

    def __str__(self) -> str:
        return f"Winograd F({self.tile})" if self.tile else "direct"


@dataclass(frozen=True)
class Cut(Choice):
    """How the work of one kernel is cut. That of a convolution by tiles is `passes.winograd_tasks.Tasks`."""


@dataclass(frozen=True)
class ConvolutionCut(Cut):
    """How the loops of a direct convolution are cut.

    `high` rows by `columns` columns of one block of channels stay in registers; a task covers `rows` rows of `blocks` blocks.
    Where not `shared`, one core does all tasks.
    """

    columns: int
    high: int
    rows: int
    blocks: int
    shared: bool = True

    def __str__(self) -> str:
        alone = "" if self.shared else ", one core"
        return f"tile {self.high}x{self.columns}, task {self.rows} rows x {self.blocks} blocks{alone}"


@dataclass(frozen=True)
class LinearCut(Cut):
    """How a linear layer is cut: `rows` samples by `blocks` blocks of features stay in registers."""

    rows: int
    blocks: int
    shared: bool = True

    def __str__(self) -> str:
        return f"tile {self.rows} rows x {self.blocks} blocks{'' if self.shared else ', one core'}"


@dataclass(frozen=True)
class OneCore(Cut):
    """A kernel that is not shared among the cores, although the model of its work says that it is worth it."""

    def __str__(self) -> str:
        return "one core"


@dataclass(frozen=True)
class Choices:
    """Measured choices by the names of their workloads: a kernel's digest, or `passes.winograd.form_workload`'s."""

    measured: Mapping[str, Choice] = field(default_factory=dict)

    def cut(self, workload: str) -> Cut | None:
        """What measured best for a kernel; None where the model has to choose."""
        found = self.measured.get(workload)
        return found if isinstance(found, Cut) else None

    def form(self, workload: str) -> Form | None:
        """What measured best for a convolution of stride 1; None where the model has to choose."""
        found = self.measured.get(workload)
        return found if isinstance(found, Form) else None

    def __bool__(self) -> bool:
        return bool(self.measured)


MODEL = Choices()
"""The cost models choose everything."""
