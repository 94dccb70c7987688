"""The order in which kernels run: one in which tensors die early, so that little memory is in use at any time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from dlc.compiler.ir import N, Source, TensorType, Value
from dlc.compiler.passes.fuse import Kernel, root
from dlc.runtime.memory import item_bytes

_SAMPLES = 8
"""The batch that tensors are weighed with where it is symbolic."""


def in_order(
    kernels: Sequence[Kernel],
    homes: Mapping[Value, Value],
    parts: Mapping[Value, Value],
    given: Collection[Value] = (),
) -> list[Kernel]:
    """The kernels, each behind those that it waits for; those that wait for each other in a circle are left out.

    `homes` says which parameter's memory a value is written to: what reads the old value runs before. `parts` says which
    concatenation a value is written into. `given` are values that lie in the caller's memory. Of several orders the one is
    taken that has the least in use at its worst moment, and of equal ones the least over all: the kernels' own order; the
    kernel next that frees most; and the one next that frees most when each reader of a tensor is credited with its share.
    """
    work = _Work(tuple(kernels), homes, parts, frozenset(given))
    orders = [work.run(None), work.run(_Freed.whole), work.run(_Freed.shared)]
    return [work.kernels[i] for i in min(orders, key=work.use)]


@dataclass(frozen=True)
class _Work:
    """Kernels by number, with what each waits for and which memory each touches."""

    kernels: tuple[Kernel, ...]
    homes: Mapping[Value, Value]
    parts: Mapping[Value, Value]
    given: frozenset[Value]

    @cached_property
    def waits(self) -> list[set[int]]:
        """For each kernel those that must have run."""
        producers: dict[Value, set[int]] = {r: {i} for i, k in enumerate(self.kernels) for r in k.results}
        writer = {p: i for v, p in self.homes.items() for i in producers.get(v, ())}
        for part, whole in self.parts.items():  # a concatenation's operands come before what reads it
            producers.setdefault(whole, set()).update(producers[part])
        waits: list[set[int]] = [set() for _ in self.kernels]
        for i, kernel in enumerate(self.kernels):
            for operand in kernel.inputs:
                origin = root(operand)
                waits[i] |= producers.get(origin, set())
                if origin in writer and writer[origin] != i:
                    waits[writer[origin]].add(i)
        return waits

    @cached_property
    def touched(self) -> list[tuple[Value, ...]]:
        """For each kernel the memories of the arena that it reads or writes, by the value that each is named after."""
        return [tuple(dict.fromkeys(filter(None, map(self._memory, (*k.inputs, *k.results))))) for k in self.kernels]

    @cached_property
    def users(self) -> dict[Value, int]:
        """For each memory the number of kernels that touch it."""
        users: dict[Value, int] = {}
        for memories in self.touched:
            for memory in memories:
                users[memory] = users.get(memory, 0) + 1
        return users

    @cached_property
    def sizes(self) -> dict[Value, int]:
        """The bytes of each memory."""
        return {memory: _bytes(memory.type) for memory in self.users}

    def run(self, gain: Callable[[_Freed, int], float] | None) -> list[int]:
        """An order: next is, of the kernels that wait for nothing more, the one with the largest `gain`, if that is not
        negative, else the first."""
        after: list[list[int]] = [[] for _ in self.kernels]
        for i, earlier in enumerate(self.waits):
            for j in earlier:
                after[j].append(i)
        missing = [len(w) for w in self.waits]
        ready = [i for i, m in enumerate(missing) if m == 0]
        heapq.heapify(ready)
        freed, ordered = _Freed(self), []
        while ready:
            chosen = ready[0]
            if gain is not None:
                best = max(ready, key=lambda i: (gain(freed, i), -i))
                chosen = best if gain(freed, best) >= 0 else chosen
            ready.remove(chosen)
            heapq.heapify(ready)
            ordered.append(chosen)
            freed.take(chosen)
            for j in after[chosen]:
                missing[j] -= 1
                if missing[j] == 0:
                    heapq.heappush(ready, j)
        return ordered

    def use(self, order: Sequence[int]) -> tuple[int, int]:
        """The most bytes in use at any time, if kernels run in this order, and the sum of those in use over all kernels."""
        left, used, most, total = dict(self.users), 0, 0, 0
        begun: set[Value] = set()
        for i in order:
            new = [m for m in self.touched[i] if m not in begun]
            begun.update(new)
            used += sum(self.sizes[m] for m in new)
            most = max(most, used)
            total += used
            for memory in self.touched[i]:
                left[memory] -= 1
                used -= 0 if left[memory] else self.sizes[memory]
        return most, total

    def _memory(self, value: Value) -> Value | None:
        while value in self.parts:
            value = self.parts[value]
        origin = root(value)
        if isinstance(origin.op, Source) or origin in self.homes or origin in self.given:
            return None
        return origin


class _Freed:
    """What a kernel would free if it ran next, less what it would take."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._left = dict(work.users)
        self._begun: set[Value] = set()

    def take(self, kernel: int) -> None:
        """Runs a kernel."""
        for memory in self._work.touched[kernel]:
            self._begun.add(memory)
            self._left[memory] -= 1

    def whole(self, kernel: int) -> float:
        """Bytes of the memories that no other kernel still needs."""
        return self._sum(kernel, lambda left: left == 1)

    def shared(self, kernel: int) -> float:
        """Bytes of the memories that it needs, each divided by the number of kernels that still need it."""
        return self._sum(kernel, lambda left: 1 / left)

    def _sum(self, kernel: int, share: Callable[[int], float]) -> float:
        sizes, total = self._work.sizes, 0.0
        for memory in self._work.touched[kernel]:
            total += sizes[memory] * share(self._left[memory])
            total -= 0 if memory in self._begun else sizes[memory]
        return total


def _bytes(type_: TensorType) -> int:
    return prod(_SAMPLES if d is N else int(d) for d in type_.shape) * item_bytes(type_.dtype.value)
