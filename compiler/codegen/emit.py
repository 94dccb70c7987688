"""Kernels -> program: the order of the kernels, the memory that each reads and writes, updates in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from dlc.compiler.codegen.flops import flops, per_sample
from dlc.compiler.codegen.ordering import in_order
from dlc.compiler.codegen.target import Target
from dlc.compiler.ir import (
    Constant,
    Fusion,
    Graph,
    Input,
    N,
    Op,
    Parameter,
    Shape,
    Source,
    TensorType,
    Value,
    apply,
    source,
)
from dlc.compiler.ir.graph import rebuild
from dlc.compiler.ops.slicing import Concat
from dlc.compiler.passes.fuse import Fuse, Kernel, is_immediate, root
from dlc.runtime.plan import BATCH, Program, Slot, Step, TensorSpec, WeightSpec


@dataclass(frozen=True)
class Part:
    """Where a tensor lies: in one of `shape`, from element `start` along `axis`."""

    shape: Shape
    axis: int
    start: int


@dataclass(frozen=True)
class Call:
    """One step before its function has a name.

    `in_place` maps the position of an input to that of the result in its memory, or that of any tensor to the part of a larger
    one that it is. Positions count through inputs, then results: the parameters of the kernel's function.
    """

    kernel: Kernel
    in_place: Mapping[int, int | Part]

    @property
    def shared(self) -> dict[int, int]:
        """Inputs with the memory of a result."""
        return {i: where for i, where in self.in_place.items() if isinstance(where, int)}

    @property
    def parts(self) -> dict[int, Part]:
        """Tensors that are parts of larger ones."""
        return {i: where for i, where in self.in_place.items() if isinstance(where, Part)}


@dataclass(frozen=True)
class Schedule:
    """A graph's kernels in their final order.

    `homes` says which parameter's memory a value is written to, `inside` which concatenation a value is written into.
    """

    graph: Graph
    calls: tuple[Call, ...]
    homes: Mapping[Value, Value]
    inside: Mapping[Value, Value]

    @cached_property
    def constants(self) -> Mapping[str, np.ndarray]:
        """Constants that are not scalars, by the names that they get among the weights."""
        return {v.op.key: v.op.value for v in self.graph.values if isinstance(v.op, Constant) and not is_immediate(v)}


def order(graph: Graph, fuse: Fuse | None = None) -> Schedule:
    """Fuses the graph and orders its kernels: what reads a parameter's old value runs before what overwrites it."""
    fuse = fuse or Fuse()
    graph = own_operands(own_results(name_constants(graph)), fuse)
    while True:
        kernels = fuse(graph)
        parts = concatenated(graph, kernels)
        kernels = tuple(k for k in kernels if k.results[0] not in parts.values())
        homes = _homes(graph, kernels)
        given = {root(v) for v in graph.outputs.values()}
        ordered = in_order(kernels, homes, parts, given)
        apart = {v for v in graph.updates.values() if v not in homes}
        if not apart and len(ordered) == len(kernels):
            calls = tuple(Call(k, {**_shared(k, homes), **_placed(k, parts)}) for k in ordered)
            return Schedule(graph, calls, homes, parts)
        if not apart:  # kernels wait for each other: one of them needs both an old and a new value of a parameter
            done = set(ordered)
            waiting = {r for k in kernels if k not in done for r in k.results}
            apart = {min((v for v in homes if v in waiting), key=_copies)}
        updates = {p: copy(v) if v in apart else v for p, v in graph.updates.items()}
        graph = Graph(graph.name, graph.inputs, graph.outputs, updates)


def name_constants(graph: Graph) -> Graph:
    """Constants that are not scalars get names of their own: they become weights of the artifact."""
    replaced: dict[Value, Value] = {}
    for value in graph.values:
        if isinstance(value.op, Constant) and not is_immediate(value):
            key = f"constant.{len(replaced)}"
            replaced[value] = source(Constant(key, value.type, value.op.value), value.span, value.label)
    return graph.rewrite(replaced) if replaced else graph


@dataclass(frozen=True)
class Copy(Op):
    """The same elements in memory of their own. It fuses with nothing, so that it can be put behind all readers."""

    fusion: ClassVar[Fusion] = Fusion.CONTRACTION

    def infer(self, *operands: TensorType) -> TensorType:
        return operands[0]

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        return operands[0].copy()

    def lower(self, t: Any, *operands: Any) -> Any:
        return t.compute(operands[0].shape, lambda *i: operands[0](*i), self.name)


def copy(value: Value) -> Value:
    """The same elements in memory of their own."""
    return apply(Copy(), value)


def _copies(value: Value) -> int:
    """How many copies a value went through last: one has been read when its source is overwritten, two always help."""
    return 1 + _copies(value.operands[0]) if isinstance(value.op, Copy) else 0


def own_results(graph: Graph) -> Graph:
    """Every output and every update becomes a value that a kernel computes for it alone."""
    taken: set[Value] = set()
    outputs, updates = dict(graph.outputs), {p: v for p, v in graph.updates.items() if v is not p}
    for name, value in outputs.items():
        if isinstance(root(value).op, Source) or root(value) in taken:
            outputs[name] = value = copy(value)
        taken.add(root(value))
    for parameter, value in updates.items():
        if root(value) is not value or isinstance(value.op, Source) or value in taken:
            updates[parameter] = value = copy(value)
        taken.add(value)
    return Graph(graph.name, graph.inputs, outputs, updates)


def _homes(graph: Graph, kernels: tuple[Kernel, ...]) -> dict[Value, Value]:
    """New value -> the parameter in whose memory it is written."""
    producer = {r: k for k in kernels for r in k.results}
    return {v: p for p, v in graph.updates.items() if _may_overwrite(producer[v], p, v)}


def _may_overwrite(kernel: Kernel, parameter: Value, result: Value) -> bool:
    """Whether a kernel may write `result` over `parameter`: where it reads it at all, then at the written element.

    What reads the parameter must be element-wise, of its shape, and not lead into the anchor or into ops that move
    elements. A kernel writes its results one after the other, so none after `result` may need the old elements.
    """
    if not any(root(o) is parameter for o in kernel.inputs):
        return True
    if any(v.op.fusion is Fusion.INJECTIVE for v in kernel.body):
        return False
    tainted: set[Value] = set()
    for value in kernel.body:
        reads = any(root(o) is parameter for o in value.operands)
        if not reads and tainted.isdisjoint(value.operands):
            continue
        tainted.add(value)
        views = any(root(o) is parameter and o is not parameter for o in value.operands)
        if value.op.fusion is not Fusion.ELEMENTWISE or value.type.shape != parameter.type.shape or views:
            return False
    later = kernel.results[kernel.results.index(result) + 1 :]
    return not any(_reaches(r, parameter, kernel) for r in later)


def _reaches(result: Value, parameter: Value, kernel: Kernel) -> bool:
    """Whether computing a result reads the parameter itself, other results being read from memory."""
    inside, stack, seen = set(kernel.body), [result], {result}
    while stack:
        for operand in stack.pop().operands:
            if operand is parameter:
                return True
            if operand in inside and operand not in kernel.results and operand not in seen:
                seen.add(operand)
                stack.append(operand)
    return False


def _shared(kernel: Kernel, homes: Mapping[Value, Value]) -> dict[int, int]:
    count = len(kernel.inputs)
    return {
        kernel.inputs.index(homes[r]): count + i
        for i, r in enumerate(kernel.results)
        if r in homes and homes[r] in kernel.inputs
    }


def own_operands(graph: Graph, fuse: Fuse) -> Graph:
    """Operands that cannot be written into their concatenation by the kernels that compute them are copied there."""
    placing = _Placing(graph, fuse(graph))
    copies: dict[Value, Value] = {}
    for value in placing.concatenations:
        fitting = [o for o in value.operands if placing.fits(o, value)]
        if fitting and len(fitting) < len(value.operands):
            operands = tuple(o if o in fitting else copy(o) for o in value.operands)
            copies[value] = Value(value.op, operands, value.type, value.span, value.label)
        placing.taken |= set(fitting)
    return _with(graph, copies)


def _with(graph: Graph, replaced: Mapping[Value, Value]) -> Graph:
    """The graph with values exchanged for others, whose own operands are brought up to date too."""
    memo: dict[Value, Value] = {}
    for value in graph.values:
        memo[value] = rebuild(value, memo, {})
        if value in replaced:
            new = replaced[value]
            operands = tuple(memo[o] if o in memo else rebuild(o, memo, {}) for o in new.operands)
            memo[value] = Value(new.op, operands, new.type, new.span, new.label)
    outputs = {k: memo[v] for k, v in graph.outputs.items()}
    updates = {memo.get(p, p): memo[v] for p, v in graph.updates.items()}
    return Graph(graph.name, graph.inputs, outputs, updates) if replaced else graph


def concatenated(graph: Graph, kernels: tuple[Kernel, ...]) -> dict[Value, Value]:
    """Value -> the concatenation that it is written into, for those all of whose operands can be; these need no kernel."""
    placing = _Placing(graph, kernels)
    parts: dict[Value, Value] = {}
    for value in placing.concatenations:
        if all(placing.fits(o, value) for o in value.operands):
            parts |= dict.fromkeys(value.operands, value)
            placing.taken |= set(value.operands)
    return parts


class _Placing:
    """What may be written into a concatenation: values that a kernel computes for reading as they are, once in each."""

    def __init__(self, graph: Graph, kernels: tuple[Kernel, ...]) -> None:
        self.graph = graph
        self.kept = {root(v) for v in (*graph.outputs.values(), *graph.updates.values())}
        alone = [k.body[0] for k in kernels if len(k.body) == 1]
        self.concatenations = [v for v in alone if isinstance(v.op, Concat) and v not in graph.updates.values()]
        self.taken: set[Value] = set()

    def fits(self, operand: Value, value: Value) -> bool:
        """Whether `operand` can be written into `value`."""
        if operand in self.taken or operand in self.kept or value.operands.count(operand) > 1:
            return False
        if operand.op.fusion in (Fusion.SOURCE, Fusion.VIEW):
            return False
        if operand in self.concatenations and operand.op != value.op:
            return False  # parts of parts lie along one axis
        return not any(u.op.fusion is Fusion.VIEW for u in self.graph.users[operand])


def _placed(kernel: Kernel, parts: Mapping[Value, Value]) -> dict[int, Part]:
    placed = {}
    for position, value in enumerate((*kernel.inputs, *kernel.results)):
        if value in parts:
            placed[position] = _part(value, parts)
    return placed


def _part(value: Value, parts: Mapping[Value, Value]) -> Part:
    whole, start = value, 0
    while whole in parts:
        outer = parts[whole]
        assert isinstance(outer.op, Concat)
        axis = outer.op.axis
        before = outer.operands[: outer.operands.index(whole)]
        start += sum(int(o.type.shape[axis]) for o in before)  # type: ignore[arg-type,misc]  # the batch is not concatenated
        whole = outer
    return Part(whole.type.shape, axis, start)


@dataclass
class _Slots:
    """Numbers the tensors of a program: one slot for each shape in which some memory is seen."""

    target: Target
    places: Mapping[Value, Slot]
    inside: Mapping[Value, Value]
    slots: list[Slot] = field(default_factory=list)
    numbers: dict[Slot, int] = field(default_factory=dict)
    storages: dict[Value, int] = field(default_factory=dict)

    def of(self, value: Value) -> int:
        while value in self.inside:
            value = self.inside[value]
        origin = root(value)
        place = self.places.get(origin)
        if place is None:
            assert not isinstance(origin.op, Source), f"{origin} is given, but has no place in memory"
            storage = self.storages.setdefault(origin, len(self.storages))
            place = Slot((), self.target.stored(origin.type.dtype).value, "arena", "", storage)
        slot = Slot(plan_shape(value.type.shape), place.dtype, place.place, place.name, place.storage)
        if slot not in self.numbers:
            self.numbers[slot] = len(self.slots)
            self.slots.append(slot)
        return self.numbers[slot]


def plan_shape(shape: Shape) -> tuple[int, ...]:
    """A graph's shape in the plan's terms."""
    return tuple(BATCH if d is N else int(d) for d in shape)


def program(schedule: Schedule, names: list[tuple[str, str]], batch: int | None, target: Target) -> Program:
    """The program; `names` holds for each call the function's name and that of its variant for a batch of one."""
    graph = schedule.graph
    weights, places = [], {}
    for value in graph.inputs:
        assert isinstance(value.op, Input)
        places[value] = Slot((), target.stored(value.type.dtype).value, "input", value.op.key)
    for value in (*graph.parameters, *(v for v in graph.values if isinstance(v.op, Constant) and not is_immediate(v))):
        assert isinstance(value.op, Source)
        weights.append(_weight(value))
        places[value] = Slot((), target.stored(value.type.dtype).value, "weight", value.op.key)
    for value, parameter in schedule.homes.items():
        places[value] = places[parameter]
    for name, value in graph.outputs.items():
        places[root(value)] = Slot((), target.stored(value.type.dtype).value, "output", name)
    slots = _Slots(target, places, schedule.inside)
    steps = []
    for call, (name, name_one) in zip(schedule.calls, names, strict=True):
        steps.append(_step(call, slots, name, name_one))
    return Program(
        tuple(_spec(v.op.key, v) for v in graph.inputs if isinstance(v.op, Input)),
        tuple(_spec(k, v) for k, v in graph.outputs.items()),
        tuple(weights),
        tuple(slots.slots),
        tuple(steps),
        BATCH if batch is None else batch,
        target.device,
    )


def _step(call: Call, slots: _Slots, name: str, name_one: str) -> Step:
    kernel = call.kernel
    values = [v for i, v in enumerate((*kernel.inputs, *kernel.results)) if i not in call.shared]
    counts = [(flops(v), per_sample(v)) for v in kernel.body]
    return Step(
        name,
        tuple(slots.of(v) for v in values),
        len(kernel.results),
        name_one,
        kernel.label,
        kernel.what,
        sum(c for c, each in counts if each),
        sum(c for c, each in counts if not each),
    )


def _spec(name: str, value: Value) -> TensorSpec:
    return TensorSpec(name, plan_shape(value.type.shape), value.type.dtype.value)


def _weight(value: Value) -> WeightSpec:
    op = value.op
    assert isinstance(op, Source)
    shape, dtype = plan_shape(value.type.shape), value.type.dtype.value
    if not isinstance(op, Parameter):
        return WeightSpec(op.key, shape, dtype, None, "derived")
    return WeightSpec(op.key, shape, dtype, op.layout, weight_role(op), op.transform)


def weight_role(op: Parameter) -> str:
    """A parameter's role among the weights, told by its key and by whether it is trained."""
    if op.key.startswith("derived."):
        return "derived"
    if "@" in op.key:
        return "state"
    return "parameter" if op.trainable else "statistic"
