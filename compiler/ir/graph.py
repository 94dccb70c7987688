"""The Graph: immutable typed SSA. A value is one op applied to earlier values; a graph is its outputs and updates.

Every op has one result. A value carries the span of the spec text it came from and the dotted name of the layer it
belongs to, so that tables, profiles and error messages can name it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, ClassVar

from dlc.compiler.ir.types import TensorType
from dlc.compiler.source import Span
from dlc.runtime.deferred import np
from dlc.runtime.layout import Layout, Transform


class ShapeError(Exception):
    """A shape rule that does not hold. The message states the fact: "cannot add [64, 56, 56] and [128, 28, 28]"."""


class Fusion(Enum):
    """How the fusing pass may treat an op."""

    ELEMENTWISE = "elementwise"  # each result element from the elements at the same (broadcast) index
    INJECTIVE = "injective"  # each result element from one element elsewhere: transpose, pad, slice, concat
    VIEW = "view"  # the same memory under another shape
    REDUCTION = "reduction"  # sums, maxima, means over axes
    CONTRACTION = "contraction"  # convolution, linear, pooling and their gradients: elementwise neighbours fuse behind
    SOURCE = "source"  # inputs, parameters, constants


@dataclass(frozen=True)
class Op(ABC):
    """A pure function of tensors. Its fields are its attributes, its methods its meaning.

    A subclass states its shape rule, its numpy reference, its gradient, its lowering and its samples, all in one place.
    """

    fusion: ClassVar[Fusion] = Fusion.CONTRACTION

    @property
    def name(self) -> str:
        """What the printer shows: the class name in snake case."""
        return "".join("_" + c.lower() if c.isupper() else c for c in type(self).__name__).lstrip("_")

    @abstractmethod
    def infer(self, *operands: TensorType) -> TensorType:
        """The result's type. Raises ShapeError where the operands do not fit."""

    @abstractmethod
    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """The meaning, in numpy, computed in the operands' own dtype (float64 operands give a float64 result)."""

    def gradient(self, result: Value, upstream: Value) -> Sequence[Value | None]:
        """Gradient by each operand of `result` (None: not differentiable by it), given the gradient by the result."""
        raise NotDifferentiable(self.name)

    @abstractmethod
    def lower(self, t: Any, *operands: Any) -> Any:
        """The result as a TensorIR compute. `t` is the lowering context (codegen.lower.Lowering), operands its tensors."""

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Cases that the shared tests run: compiled equals reference, gradient equals finite differences."""
        return ()


class NotDifferentiable(Exception):
    """An op without a gradient stands between the loss and a parameter."""


@dataclass(frozen=True)
class Sample:
    """One case for the shared tests of an op: the op and its operand types (N is replaced by 1 and by 3).

    `low` and `high` bound the random operand values; `integer_high` is the exclusive bound of integer operands;
    `differentiable` is False for cases at kinks; `distinct` asks for operand values without ties (max pooling).
    """

    op: Op
    operands: tuple[TensorType, ...]
    low: float = -2.0
    high: float = 2.0
    integer_high: int = 3
    differentiable: bool = True
    distinct: bool = False


@dataclass(frozen=True, eq=False)
class Value:
    """One op applied to operands. Compared by identity."""

    op: Op
    operands: tuple[Value, ...]
    type: TensorType
    span: Span | None = None
    label: str = ""

    def __repr__(self) -> str:
        return f"<{self.op.name} {self.type}>"


def apply(op: Op, *operands: Value, span: Span | None = None, label: str = "") -> Value:
    """A new value. Span and label default to the first operand that is computed and has them."""
    type_ = op.infer(*(v.type for v in operands))
    if span is None:
        span = next((v.span for v in operands if v.span), None)
    if not label:
        label = next((v.label for v in operands if v.label and not isinstance(v.op, Source)), "")
    return Value(op, operands, type_, span, label)


@dataclass(frozen=True)
class Source(Op):
    """A value that is given, not computed."""

    fusion: ClassVar[Fusion] = Fusion.SOURCE
    key: str
    type: TensorType

    def infer(self, *operands: TensorType) -> TensorType:
        return self.type

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        raise AssertionError(f"{self.key} is given, not computed")

    def lower(self, t: Any, *operands: Any) -> Any:
        raise AssertionError(f"{self.key} is given, not computed")


@dataclass(frozen=True)
class Input(Source):
    """A tensor that the caller passes at each run (an image, labels, the learning rate)."""


@dataclass(frozen=True)
class Parameter(Source):
    """A tensor that lives between runs: a weight, a running statistic, optimizer state.

    `type` is the form in memory; `layout` maps the canonical form (what files hold) to it, None where they are the same.
    `transform` makes it of another parameter, which files hold in its place.
    """

    trainable: bool = True
    layout: Layout | None = None
    transform: Transform | None = None

    @property
    def canonical_shape(self) -> tuple[int, ...]:
        if self.layout is not None:
            return self.layout.canonical_shape
        return tuple(int(d) for d in self.type.shape)  # type: ignore[arg-type]  # parameters have no batch


@dataclass(frozen=True)
class Constant(Source):
    """A small tensor known at compile time (a connection table, RBF prototypes)."""

    data: np.ndarray = field(default_factory=lambda: np.zeros(()), compare=False)

    @property
    def value(self) -> np.ndarray:
        return self.data


def source(op: Source, span: Span | None = None, label: str = "") -> Value:
    """The value of an input, a parameter or a constant."""
    return Value(op, (), op.type, span, label)


@dataclass(frozen=True)
class Graph:
    """Outputs by name, and updates: parameter value -> the value it holds after the run (in place)."""

    name: str
    inputs: tuple[Value, ...]
    outputs: Mapping[str, Value]
    updates: Mapping[Value, Value] = field(default_factory=dict)

    @cached_property
    def values(self) -> tuple[Value, ...]:
        """Every value that an output or an update needs, operands before users; the inputs first, used or not."""
        order: dict[Value, None] = dict.fromkeys(self.inputs)
        for root in (*self.outputs.values(), *self.updates.values()):
            stack: list[tuple[Value, bool]] = [(root, False)]
            while stack:
                value, ready = stack.pop()
                if value in order:
                    continue
                if ready:
                    order[value] = None
                else:
                    stack.append((value, True))
                    stack.extend((operand, False) for operand in reversed(value.operands) if operand not in order)
        return tuple(order)

    @cached_property
    def users(self) -> Mapping[Value, tuple[Value, ...]]:
        """For each value, the values that take it as an operand (once per use)."""
        users: dict[Value, list[Value]] = {v: [] for v in self.values}
        for value in self.values:
            for operand in value.operands:
                users[operand].append(value)
        return {v: tuple(u) for v, u in users.items()}

    @property
    def parameters(self) -> tuple[Value, ...]:
        found = dict.fromkeys(v for v in self.values if isinstance(v.op, Parameter))
        return tuple(dict.fromkeys((*found, *self.updates)))

    def rewrite(self, replace: Mapping[Value, Value]) -> Graph:
        """The graph with some values replaced; everything downstream is rebuilt, nothing else changes."""
        memo: dict[Value, Value] = {}
        for value in self.values:
            memo[value] = rebuild(value, memo, replace)
        inputs = tuple(memo[v] for v in self.inputs)
        outputs = {k: memo[v] for k, v in self.outputs.items()}
        updates = {memo.get(p, replace.get(p, p)): memo[v] for p, v in self.updates.items()}
        return Graph(self.name, inputs, outputs, updates)


def rebuild(value: Value, memo: dict[Value, Value], replace: Mapping[Value, Value]) -> Value:
    """`value` over rebuilt operands (already in `memo`), or its replacement; the same object where nothing changed."""
    if value in replace:
        return replace[value]
    operands = tuple(memo[o] for o in value.operands)
    if all(a is b for a, b in zip(operands, value.operands, strict=True)):
        return value
    return Value(value.op, operands, value.op.infer(*(o.type for o in operands)), value.span, value.label)
