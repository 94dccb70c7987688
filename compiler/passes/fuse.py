"""Fusing: which values of a graph one kernel computes.

A kernel is a contraction or a reduction with the element-wise ops behind it, a reduction with the element-wise ops before
it, or element-wise and index-changing ops alone. Views belong to no kernel: they are another shape of the same memory.

Kernels run in the order of their last values. A set of values may become one kernel if all that it reads is computed
before its last value and all that reads from it comes after; both are checked whenever a kernel grows, so kernels never
wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from dlc.compiler.ir import Constant, Fusion, Graph, Shape, Value
from dlc.compiler.ops.rounding import Round
from dlc.compiler.ops.slicing import Concat
from dlc.compiler.passes.rewrite import narrows, widens

_ANCHORS = (Fusion.CONTRACTION, Fusion.REDUCTION)


@dataclass(frozen=True)
class Kernel:
    """Values that one kernel computes, operands before users.

    `results` are those that others read. The `anchor` is the contraction or reduction, None in an element-wise kernel.
    """

    body: tuple[Value, ...]
    results: tuple[Value, ...]
    anchor: Value | None = None

    @cached_property
    def inputs(self) -> tuple[Value, ...]:
        """What the kernel reads, in the order of first use. Scalar constants are part of the code."""
        inside = set(self.body)
        read = (o for v in self.body for o in v.operands)
        return tuple(dict.fromkeys(o for o in read if o not in inside and not is_immediate(o)))

    @property
    def what(self) -> str:
        """The fused ops: "conv2d+add+relu"."""
        return "+".join(v.op.name for v in self.body)

    @property
    def label(self) -> str:
        """The layer that the kernel belongs to: its anchor's, else its last value's."""
        named = [v.label for v in (*((self.anchor,) if self.anchor else ()), *reversed(self.body)) if v.label]
        return named[0] if named else ""


def is_immediate(value: Value) -> bool:
    """A scalar constant: kernels hold it in their code."""
    return isinstance(value.op, Constant) and not value.type.shape


def root(value: Value) -> Value:
    """The value whose memory a view shows; the value itself where it is no view."""
    while value.op.fusion is Fusion.VIEW:
        value = value.operands[0]
    return value


@dataclass(eq=False)
class _Group:
    members: set[Value]
    anchor: Value | None = None


@dataclass(frozen=True)
class Fuse:
    """Graph -> kernels in the order in which they run.

    `most_inputs` bounds what one kernel reads, `longest` how many ops it holds, `largest` how many ops the expression of
    one result counts when every use of a value repeats the value's own expression, as inlining does. `rounds_beside`: the
    kernel of a contraction gives its result rounded too where others read both, for targets whose kernels can.
    """

    most_inputs: int = 24
    longest: int = 64
    largest: int = 256
    rounds_beside: bool = False

    def __call__(self, graph: Graph) -> tuple[Kernel, ...]:
        """The kernels of all values that are computed, each value in one kernel."""
        return _Fusing(self, graph).kernels()


@dataclass
class _Fusing:
    options: Fuse
    graph: Graph
    groups: dict[Value, _Group] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index = {v: i for i, v in enumerate(self.graph.values)}
        self.kept = {root(v) for v in (*self.graph.outputs.values(), *self.graph.updates.values())}
        self.readers = _readers(self.graph)

    def kernels(self) -> tuple[Kernel, ...]:
        for value in self.graph.values:
            if value.op.fusion in (Fusion.SOURCE, Fusion.VIEW) or value in self.groups:
                continue
            if value.op.fusion in _ANCHORS:
                self._grow(_Group({value}, value), value)
            elif value.op.fusion is Fusion.INJECTIVE:
                self._absorb_producers(self._assign(_Group({value})), value)
            else:
                self._join(value)
        unique = dict.fromkeys(g for g in self.groups.values() if g.members)
        ordered = sorted(unique, key=lambda g: max(self.index[v] for v in g.members))
        return tuple(self._kernel(g) for g in ordered)

    def _kernel(self, group: _Group) -> Kernel:
        body = tuple(sorted(group.members, key=self.index.__getitem__))
        return Kernel(body, tuple(v for v in body if self._escapes(v, group.members)), group.anchor)

    def _assign(self, group: _Group) -> _Group:
        for member in group.members:
            self.groups[member] = group
        return group

    def _escapes(self, value: Value, members: Iterable[Value]) -> bool:
        return value in self.kept or any(r not in members for r in self.readers[value])

    def _position(self, value: Value) -> int:
        """When the kernel that computes a value runs."""
        value = root(value)
        group = self.groups.get(value)
        return max(self.index[m] for m in group.members) if group else self.index[value]

    def _legal(self, members: set[Value]) -> bool:
        last = max(self.index[m] for m in members)
        for member in members:
            if any(o not in members and self._position(o) >= last for o in member.operands):
                return False
            if any(r not in members and self._position(r) <= last for r in self.readers[member]):
                return False
        if self._expanded(members) > self.options.largest:
            return False
        reads = {o for m in members for o in m.operands if o not in members and not is_immediate(o)}
        return len(reads) <= self.options.most_inputs and len(members) <= self.options.longest

    def _expanded(self, members: set[Value]) -> int:
        """How large the largest result's expression is if each use of a value repeats the value's own expression."""
        sizes: dict[Value, int] = {}
        for member in sorted(members, key=self.index.__getitem__):
            sizes[member] = 1 + sum(sizes.get(o, 0) for o in member.operands)
        return max(sizes.values())

    def _grow(self, group: _Group, anchor: Value) -> None:
        """Takes in the element-wise ops behind an anchor, as long as one value comes out."""
        self._assign(group)
        if anchor.op.fusion is Fusion.REDUCTION:
            self._absorb_producers(group, anchor)
        exit_ = anchor
        while exit_ not in self.kept and self.readers[exit_]:
            region = self._region(exit_)
            if region is None or not self._legal(group.members | region):
                break
            group.members |= region
            self._assign(group)
            for value in sorted(region, key=self.index.__getitem__, reverse=True):
                self._absorb_producers(group, value, value.type.shape)
            exit_ = max(region, key=self.index.__getitem__)
        if exit_ not in self.kept and widens(exit_) and exit_.operands[0] in group.members:
            group.members.discard(exit_)  # its readers widen it: memory holds 16 bits
            del self.groups[exit_]

    def _region(self, start: Value) -> set[Value] | None:
        """The element-wise values between `start` and the first value through which all that reads it goes."""
        region: set[Value] = set()
        open_ = set(self.readers[start])
        while len(region) < 12:
            value = min(open_, key=self.index.__getitem__)
            fits = value.op.fusion is Fusion.ELEMENTWISE and value.type.shape == start.type.shape
            if not fits or value in self.groups or not self._direct(value, {start} | region):
                return None
            open_.discard(value)
            region.add(value)
            if not open_:
                return region
            if value in self.kept:
                return None
            open_ |= set(self.readers[value])
        return None

    def _direct(self, value: Value, inside: set[Value]) -> bool:
        """Whether `value` reads what is inside directly, not through a view."""
        return all(root(o) not in inside or o in inside for o in value.operands)

    def _absorb_producers(self, group: _Group, value: Value, shape: Shape | None = None) -> None:
        """Takes in what, in the end, only `value` reads: element-wise values (of one shape, if given) and moves."""
        for operand in dict.fromkeys(value.operands):
            taken: set[Value] = set()
            waiting = [operand]
            while waiting:
                candidate = max(waiting, key=self.index.__getitem__)  # readers before what they read
                waiting.remove(candidate)
                if candidate in taken or self._escapes(candidate, taken | {value}):
                    continue
                if self._may_move(candidate, group, shape):
                    taken.add(candidate)
                    waiting += candidate.operands
            if not taken or not self._legal(group.members | taken):
                continue
            for member in taken:
                if member in self.groups:
                    self.groups[member].members.discard(member)
            group.members |= taken
            self._assign(group)

    def _may_move(self, value: Value, group: _Group, shape: Shape | None) -> bool:
        """Whether a value may leave the kernel that it is in for this one."""
        own = self.groups.get(value)
        if own is group or (own is not None and own.anchor is not None):
            return False
        if narrows(value) and value.operands[0].op.fusion is not Fusion.SOURCE:
            return False  # behind what computes its operand it halves what lies in memory
        if any(
            o.op.fusion in _ANCHORS and o not in self.groups and self.readers[o] == (value,) for o in value.operands
        ):
            return False  # it belongs behind an anchor of its own
        if shape is not None:
            return value.op.fusion is Fusion.ELEMENTWISE and value.type.shape == shape
        return value.op.fusion in (Fusion.ELEMENTWISE, Fusion.INJECTIVE)

    def _join(self, value: Value) -> None:
        """Puts an element-wise value into the element-wise kernels that compute its operands, where that is legal."""
        beside = self._beside(value)
        if beside is not None:
            beside.members.add(value)
            self._assign(beside)
            return
        group = _Group({value})
        for operand in sorted(dict.fromkeys(value.operands), key=self.index.__getitem__, reverse=True):
            producer = self.groups.get(operand)
            if producer is None or producer.anchor is not None or producer is group:
                continue
            if isinstance(operand.op, Concat) and producer.members == {operand}:
                continue  # others read it too: alone, it may need no kernel at all
            merged = group.members | producer.members
            if operand.type.shape == value.type.shape and self._direct(value, producer.members) and self._legal(merged):
                group.members = merged
        self._assign(group)

    def _beside(self, value: Value) -> _Group | None:
        """The kernel of a contraction that a rounding of its result may belong to, as a second result."""
        if not self.options.rounds_beside or not (isinstance(value.op, Round) or narrows(value)):
            return None
        group = self.groups.get(value.operands[0])
        if group is None or group.anchor is None or group.anchor.op.fusion is not Fusion.CONTRACTION:
            return None
        same = group.anchor.type.shape == value.type.shape
        return group if same and self._legal(group.members | {value}) else None


def _readers(graph: Graph) -> Mapping[Value, tuple[Value, ...]]:
    """For each value, the values that read its memory, directly or through views; views themselves read nothing."""
    readers: dict[Value, dict[Value, None]] = {v: {} for v in graph.values}
    for value in graph.values:
        if value.op.fusion is not Fusion.VIEW:
            for operand in value.operands:
                readers[root(operand)][value] = None
    return {v: tuple(r) for v, r in readers.items()}
