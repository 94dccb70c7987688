"""The network while it is put together: inputs, layer calls, outputs, the names that are taken and the weights they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.calls import where
from dlc.compiler.frontend.naming import Scope
from dlc.compiler.frontend.values import POISON, NumberedStage, Poison, Stage, is_tensors, kind, show_shape
from dlc.compiler.layers.base import Layer, ParameterSpec
from dlc.compiler.network import LayerCall, Network, NetworkInput, NetworkOutput, Tensor
from dlc.compiler.source import Span

if TYPE_CHECKING:
    from dlc.compiler.frontend.evaluator import Evaluator


@dataclass(frozen=True)
class Registered:
    """A layer that has a name, and the weights it made at its first use."""

    layer: Layer
    parameters: dict[str, ParameterSpec]
    weights: dict[str, str]
    span: Span


@dataclass(eq=False)
class Assembly:
    """What one model has so far. `bound` holds the full names of stages in use, `starts` the scope and the first number of
    those whose items are numbered."""

    inputs: list[NetworkInput] = field(default_factory=list)
    calls: list[LayerCall] = field(default_factory=list)
    outputs: list[NetworkOutput] = field(default_factory=list)
    scope: Scope = field(default_factory=Scope)
    bound: dict[Stage, str] = field(default_factory=dict)
    starts: dict[Stage, tuple[str, int]] = field(default_factory=dict)
    registered: dict[str, Registered] = field(default_factory=dict)
    parameter_elements: int = 0
    prepared: int = 0  # stages that `repeat` and `chain` have made
    broken: bool = False  # a mistake left an unknown value behind
    measured: Span | None = None  # the first place where a height or a width was read

    def add_input(self, evaluator: Evaluator, node: ast.Input, shape: Any) -> Tensor | Poison:
        """`input name: shape`; POISON where the shape is none."""
        if isinstance(shape, Poison) or (
            isinstance(shape, (list, tuple)) and any(isinstance(n, Poison) for n in shape)
        ):
            return POISON
        span = node.shape.span
        if not isinstance(shape, (list, tuple)) or not all(
            isinstance(n, int) and not isinstance(n, bool) for n in shape
        ):
            return evaluator.error(
                "E0306", f"an input's shape is a list of integers, not {kind(shape)}", span, help=SHAPES
            )
        if len(shape) not in (1, 3):
            message = f"an input has 1 or 3 dimensions, not {len(shape)}"
            return evaluator.error("E0306", message, span, help=SHAPES)
        if min(shape) < 1:
            return evaluator.error("E0306", f"{show_shape(shape)} has a dimension below 1", span)
        if any(i.name == node.name.name for i in self.inputs):
            return evaluator.error("E0403", f"there are two inputs `{node.name.name}`", node.name.span)
        if not self.fits(evaluator, tuple(shape), span):
            return POISON
        given = NetworkInput(node.name.name, tuple(shape), node.span)
        self.inputs.append(given)
        return Tensor(given.shape, given, node.name.span)

    def add_output(self, evaluator: Evaluator, node: ast.Output, value: Any) -> None:
        """`-> output name`, or `output name` for a tensor of that name."""
        name = node.name.name
        first = next((o for o in self.outputs if o.name == name), None)
        if first is not None:
            place = where(first.span, node.span)
            evaluator.error("E0603", f"there are two outputs `{name}`", node.name.span, f"the first is at {place}")
            return
        if isinstance(value, Poison):
            self.broken = True
            self.outputs.append(NetworkOutput(name, Tensor(()), node.training_only, node.span))
        elif isinstance(value, Tensor):
            self.outputs.append(NetworkOutput(name, value, node.training_only, node.span))
        else:
            help = "join them first: `-> concat`, or give each an output of its own" if is_tensors(value) else ""
            evaluator.error("E0604", f"output `{name}` is one tensor, not {kind(value)}", node.name.span, help=help)

    def fits(self, evaluator: Evaluator, shape: Sequence[int], span: Span) -> bool:
        """Whether a tensor of this shape is within limits; reported where not."""
        if prod(shape) <= evaluator.limits.tensor_elements:
            return True
        size = prod(shape) * 4 / 2**30
        amount = f"{size:,.0f} GB" if size < 10**6 else f"{size:.2g} GB"
        message = f"a tensor {show_shape(shape)} takes {amount} for one sample"
        limit = evaluator.limits.tensor_elements
        evaluator.error("E0905", message, span, help=f"a tensor has at most {limit:,} elements")
        return False

    def name_of(self, evaluator: Evaluator, stage: Stage, keyword: str, label: str | None, span: Span) -> str:
        """The full name of a layer or a scope: that of its first use, else the label, else keyword and position."""
        scope = self.scope
        bound = self.bound.get(stage)
        first_here = stage not in scope.seen
        scope.seen.add(stage)
        if bound is not None:
            if first_here and label is None and bound.rpartition(".")[0] == scope.prefix:
                scope.automatic(keyword)
            return bound
        local = label if label is not None else scope.automatic(keyword)
        taken = scope.claim(local, span)
        if taken is not None:
            where_ = f" in `{scope.prefix}`" if scope.prefix else ""
            evaluator.error(
                "E0602", f"two things are called `{local}`{where_}", span, f"the first is at {where(taken, span)}",
                help="weights need names of their own: change one of the labels",
            )  # fmt: skip
        full = scope.full(local) if taken is None else scope.full(f"{local}'{len(self.bound)}")
        self.bound[stage] = full
        return full

    @contextmanager
    def inside(self, evaluator: Evaluator, stage: Stage, keyword: str, label: str | None, span: Span) -> Iterator[None]:
        """The scope that a stage opens, under its label or its keyword and position."""
        again = stage in self.bound or self.scope.again
        prefix = self.name_of(evaluator, stage, keyword, label, span)
        outer = self.scope
        self.scope = Scope(prefix, again)
        try:
            yield
        finally:
            self.scope = outer

    def first_number(self, stage: NumberedStage) -> int:
        """The number of the first item of a `repeat` or a `chain`: that of its first use, else the next in the scope."""
        scope, count = self.scope, len(stage.stages)
        first_here = stage not in scope.seen
        scope.seen.add(stage)
        if stage in self.starts:
            prefix, start = self.starts[stage]
            if first_here and prefix == scope.prefix:
                scope.next_item += count
            return start
        start = scope.next_item
        scope.next_item += count
        self.starts[stage] = (scope.prefix, start)
        return start

    def network(self, name: str, span: Span | None) -> Network:
        """The network as it stands."""
        measured = "" if self.measured is None else str(self.measured)
        return Network(name, tuple(self.inputs), tuple(self.calls), tuple(self.outputs), span, measured)


SHAPES = "`[channels, height, width]` for images, `[features]` for vectors; the batch is implicit"
