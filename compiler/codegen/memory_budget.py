"""Recomputation: a training step that keeps within a memory budget by computing activations a second time.

Which ones is searched for with the memory in use as judge. Tensors that are alive at the worst moment are given up one by
one, those first that free most bytes for the least time (after Jain et al., "Checkmate", 2020, whose exact search takes too
long here). Chains of tensors are given up too, all but what is alive at a few places of the forward pass (Chen et al.,
"Training deep nets with sublinear memory cost", 2016). Of what fits, that which takes the least time is taken, after what is not
needed for the budget is kept again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from dlc.compiler.codegen.repeating import Entry, Repeating, Use
from dlc.runtime.memory import item_bytes, plan_memory, resolve_shape
from dlc.runtime.plan import Program

_FLOPS, _BYTES = 1e11, 1e10
"""What a processor computes and moves in a second, to weigh one against the other."""

_MOST_SEGMENTS = 24

_STARTS = 3
"""How many of them are taken further, those that need least; all where nothing fits."""

_MOST_PLANS = 8
"""How often the search is begun anew for less, where tensors cannot be placed without gaps."""


@dataclass(frozen=True)
class Budgeted:
    """A program and the bytes of its arena; `repeated` is the number of steps that run twice."""

    program: Program
    arena: int
    repeated: int = 0


def within(program: Program, budget: int, batch: int) -> Budgeted:
    """The program with as many steps repeated as keep its arena within `budget` bytes; where none is small enough, the
    smallest that was found."""
    best = Budgeted(program, plan_memory(program, batch).peak)
    if best.arena <= budget:
        return best
    search = _Search(Repeating(program, batch))
    wanted = budget
    for _ in range(_MOST_PLANS):
        chosen = search.chosen(wanted)
        entries = search.entries(chosen)
        made = search.steps.program_of(entries)
        plan = plan_memory(made, batch)
        if plan.peak < best.arena:
            best = Budgeted(made, plan.peak, len(entries) - len(program.steps))
        if plan.peak <= budget or plan.needed > wanted:
            break
        wanted -= max(plan.peak - budget, budget // 100)
    return best


@dataclass
class _Found:
    """A set of storages to give up, what is in use then, and the seconds that it costs."""

    chosen: frozenset[int]
    use: Use
    seconds: float


class _Search:
    def __init__(self, steps: Repeating) -> None:
        self.steps = steps
        self.known: dict[frozenset[int], tuple[list[Entry], _Found] | None] = {}
        self.seconds = [self._seconds(i) for i in range(len(steps.program.steps))]

    def chosen(self, wanted: int) -> frozenset[int]:
        """The set that costs least among those found that need no more than `wanted` bytes, else the one that needs least."""
        segments = sorted(filter(None, map(self._try, self._segments())), key=lambda f: f.use.most)
        found = [*segments, *self._greedy(frozenset(), wanted)]
        for number, start in enumerate(segments):
            if number >= _STARTS and any(f.use.most <= wanted for f in found):
                break
            found += self._greedy(start.chosen, wanted)
        fitting = sorted((f for f in found if f.use.most <= wanted), key=lambda f: (f.seconds, sorted(f.chosen)))
        if not fitting:
            return min(found, key=lambda f: (f.use.most, f.seconds, sorted(f.chosen))).chosen
        pruned = [self._pruned(f, wanted) for f in fitting[:3]]
        return min(pruned, key=lambda f: (f.seconds, sorted(f.chosen))).chosen

    def entries(self, chosen: frozenset[int]) -> list[Entry]:
        """The sequence of a set that was found."""
        known = self.known[chosen]
        assert known is not None, "a set that was chosen has been tried"
        return known[0]

    def _try(self, chosen: frozenset[int]) -> _Found | None:
        if chosen not in self.known:
            entries = self.steps.sequence(chosen)
            if entries is None:
                self.known[chosen] = None
            else:
                seconds = sum(self.seconds[e.step] for e in entries) - sum(self.seconds)
                self.known[chosen] = entries, _Found(chosen, self.steps.use(entries), seconds)
        known = self.known[chosen]
        return None if known is None else known[1]

    def _greedy(self, start: frozenset[int], wanted: int) -> Iterator[_Found]:
        """Sets of growing size, each without what was best given up at the worst moment of the one before."""
        current = self._try(start)
        refused: set[int] = set()
        while current is not None:
            yield current
            if current.use.most <= wanted:
                return
            following = None
            for storage in self._candidates(current, refused):
                made = self._try(current.chosen | {storage})
                if made is not None and made.use.most <= current.use.most:
                    following = made
                    break
                refused.add(storage)
            current = following

    def _candidates(self, found: _Found, refused: set[int]) -> list[int]:
        """Storages that are only waiting at the worst moment, the one that frees most bytes for its time first."""
        steps, use = self.steps, found.use
        known = self.known[found.chosen]
        assert known is not None
        now = known[0][use.at].step
        scored = []
        for storage, (first, last) in use.spans.items():
            if storage not in steps.gaps or storage in found.chosen or storage in refused:
                continue
            before, after = steps.gaps[storage]
            if not (first <= use.at <= last and before < now < after):
                continue
            gain = steps.size(storage) - self._kept_longer(storage, found)
            if gain > 0:
                cost = sum(self.seconds[w] for w in steps.writers[storage])
                scored.append((gain / cost, storage))
        return [storage for _, storage in sorted(scored, key=lambda s: (-s[0], s[1]))]

    def _kept_longer(self, storage: int, found: _Found) -> int:
        """The bytes at the worst moment of what would be alive then only to compute `storage` again."""
        steps, use = self.steps, found.use
        operands = {r for w in steps.writers[storage] for r in steps.reads[w]} - found.chosen - steps.given
        return sum(steps.size(o) for o in operands if use.spans[o][1] < use.at)

    def _segments(self) -> Iterator[frozenset[int]]:
        """All storages that can be given up, but for those alive at a number of places of the forward pass."""
        steps = self.steps
        whole = self._try(frozenset())
        assert whole is not None, "without repeated steps it is the program itself"
        turn = whole.use.at
        early = {s: (steps.uses[s][0], before) for s, (before, after) in steps.gaps.items() if before < turn < after}
        if not early:
            return
        length = max(last for _, last in early.values()) + 1
        alive = [0] * (length + 1)
        for storage, (first, last) in early.items():
            for place in range(first, last):
                alive[place] += steps.size(storage)
        born = [0] * length
        for storage, (first, _) in early.items():
            born[first] += steps.size(storage)
        total = sum(born)
        seen = set()
        for count in range(1, _MOST_SEGMENTS + 1):
            kept: set[int] = set()
            for border in _borders(born, total / count, count):
                near = range(max(border - length // (3 * count), 0), min(border + length // (3 * count), length))
                cut = min(near, key=lambda p: (alive[p] or total, abs(p - border)), default=border)
                kept |= {s for s, (first, last) in early.items() if first <= cut < last}
            chosen = frozenset(early) - kept
            if chosen not in seen:
                seen.add(chosen)
                yield chosen

    def _pruned(self, found: _Found, wanted: int) -> _Found:
        """The set without members that need not be in it, those first that take longest for what they free."""
        ratio = {s: sum(self.seconds[w] for w in self.steps.writers[s]) / self.steps.size(s) for s in found.chosen}
        for storage in sorted(found.chosen, key=lambda s: (-ratio[s], s)):
            fewer = self._try(found.chosen - {storage})
            if fewer is not None and fewer.use.most <= wanted and fewer.seconds < found.seconds:
                found = fewer
        return found

    def _seconds(self, number: int) -> float:
        """About how long a step takes."""
        steps = self.steps
        step, batch = steps.program.steps[number], max(steps.program.batch, 1)
        slots = steps.program.slots
        moved = sum(prod(resolve_shape(slots[i].shape, batch)) * item_bytes(slots[i].dtype) for i in step.slots)
        return (step.flops * batch + step.flops_fixed) / _FLOPS + moved / _BYTES + 1e-6


def _borders(weights: Iterable[int], each: float, count: int) -> list[int]:
    """The places that divide a row of weights into `count` parts of about `each`."""
    borders: list[int] = []
    total = 0.0
    for place, weight in enumerate(weights):
        total += weight
        if len(borders) < count - 1 and total >= each * (len(borders) + 1):
            borders.append(place)
    return borders
