"""Repeated steps: a program that computes some tensors a second time, so that it need not keep them in between.

What is repeated is a step as it is: the same kernel on the same numbers, so the results are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import msgspec

from dlc.runtime.memory import aligned, slot_bytes
from dlc.runtime.plan import Program, Slot, Step

_SMALL = 1e-4
"""The part of all storages' bytes below which one is always kept: means, variances and other vectors."""


@dataclass(frozen=True)
class Entry:
    """A step of the program by its number; `renamed` maps storages to those that stand in for them here."""

    step: int
    renamed: Mapping[int, int]


@dataclass(frozen=True)
class Use:
    """The bytes in use over a sequence: the most, the entry at which that is, and each storage's first and last entry."""

    most: int
    at: int
    spans: Mapping[int, tuple[int, int]]


class Repeating:
    """What there is to know about a program's storages, for a number of samples."""

    def __init__(self, program: Program, batch: int) -> None:
        self.program = program
        slots = program.slots
        results = [s.slots[len(s.slots) - s.results :] for s in program.steps]
        self.reads = [_storages(slots, s.slots[: len(s.slots) - s.results]) for s in program.steps]
        self.writes = [_storages(slots, written) for written in results]
        self.touches = [dict.fromkeys((*r, *w)) for r, w in zip(self.reads, self.writes, strict=True)]
        self.sizes: dict[int, int] = {}
        for slot in slots:
            if slot.place == "arena":
                self.sizes[slot.storage] = max(self.sizes.get(slot.storage, 0), aligned(slot_bytes(slot, batch)))
        self.uses: dict[int, list[int]] = {}
        self.writers: dict[int, list[int]] = {}
        for number, (touched, written) in enumerate(zip(self.touches, self.writes, strict=True)):
            for storage in touched:
                self.uses.setdefault(storage, []).append(number)
            for storage in written:
                self.writers.setdefault(storage, []).append(number)
        self.changes: dict[str, list[int]] = {}  # weight -> the steps that write it
        self.lasting = [any(slots[i].place != "arena" for i in written) for written in results]
        for number, written in enumerate(results):
            for index in written:
                if slots[index].place == "weight":
                    self.changes.setdefault(slots[index].name, []).append(number)
        self.copies = (
            max(self.sizes, default=0) + 1
        )  # storage s's copy is s + copies, what is dropped lies above 2 · copies

    @cached_property
    def gaps(self) -> dict[int, tuple[int, int]]:
        """Storages that can be computed twice -> the longest time in which nothing touches them: the step before, up to
        which the first serves, and the step behind. Small ones are not among them: they are not worth a step."""
        found = {}
        least = sum(self.sizes.values()) * _SMALL
        for storage, uses in self.uses.items():
            if self.sizes[storage] < least:
                continue
            writers = self.writers.get(storage, [])
            if not writers or any(self.lasting[w] for w in writers):
                continue
            behind = [u for u in uses if u >= writers[-1]]
            if uses[: len(writers)] != writers or len(behind) < 2:
                continue  # it is read before it is whole, or written over later
            before, after = max(pairwise(behind), key=lambda pair: pair[1] - pair[0])
            if after - before > 1:
                found[storage] = before, after
        return found

    @cached_property
    def given(self) -> frozenset[int]:
        """Storages that are computed from weights and inputs alone, as transformed weights are: where what is repeated reads
        them, they are computed again rather than kept."""
        found = set()
        for storage, writers in self.writers.items():
            alone = not any(self.reads[w] or self.lasting[w] for w in writers)
            if alone and self.uses[storage][: len(writers)] == writers:
                found.add(storage)
        return frozenset(found)

    def sequence(self, chosen: Iterable[int]) -> list[Entry] | None:
        """All steps in order, those that write the chosen storages repeated before the copies are first needed; None where
        a step cannot be repeated there, as a weight that it reads has changed."""
        serves = {s: self.gaps[s][0] for s in chosen}
        made: dict[int, int] = {}
        entries: list[Entry] = []
        for number, touched in enumerate(self.touches):
            needed = self._closure(touched, number, serves, made)
            if needed:
                made |= {s: s + self.copies for s in needed}
                for repeated in sorted({w for s in needed for w in self.writers[s]}):
                    if self._has_changed(repeated, number):
                        return None
                    dropped = {r: r + 2 * self.copies for r in self.writes[repeated] if r not in made}
                    entries.append(Entry(repeated, {**self._renaming(repeated, made), **dropped}))
            renamed = {s: made[s] for s in touched if s in made} if made else {}
            entries.append(Entry(number, renamed))
        return entries

    def use(self, entries: list[Entry]) -> Use:
        """The memory in use over a sequence."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for place, entry in enumerate(entries):
            for storage in self.touches[entry.step]:
                actual = entry.renamed.get(storage, storage)
                first.setdefault(actual, place)
                last[actual] = place
        change = [0] * (len(entries) + 1)
        for storage, start in first.items():
            size = self.size(storage)
            change[start] += size
            change[last[storage] + 1] -= size
        used = most = at = 0
        for place, amount in enumerate(change):
            used += amount
            if used > most:
                most, at = used, place
        return Use(most, at, {s: (start, last[s]) for s, start in first.items()})

    def size(self, storage: int) -> int:
        """The bytes of a storage or of a copy."""
        return self.sizes[storage % self.copies]

    def program_of(self, entries: list[Entry]) -> Program:
        """The program with the steps of a sequence."""
        slots = list(self.program.slots)
        numbers = {slot: i for i, slot in enumerate(slots)}

        def renamed(index: int, renaming: Mapping[int, int]) -> int:
            slot = self.program.slots[index]
            if slot.place != "arena" or slot.storage not in renaming:
                return index
            copy = msgspec.structs.replace(slot, storage=renaming[slot.storage])
            if copy not in numbers:
                numbers[copy] = len(slots)
                slots.append(copy)
            return numbers[copy]

        steps: list[Step] = []
        for entry in entries:
            step = self.program.steps[entry.step]
            if entry.renamed:
                step = msgspec.structs.replace(step, slots=tuple(renamed(i, entry.renamed) for i in step.slots))
            steps.append(step)
        return msgspec.structs.replace(self.program, slots=tuple(slots), steps=tuple(steps))

    def _closure(
        self, touched: Iterable[int], number: int, serves: Mapping[int, int], made: Mapping[int, int]
    ) -> set[int]:
        """The storages to compute again before a step: those that it touches, and those that they are computed from."""
        found: set[int] = set()
        waiting = [s for s in touched if s in serves and s not in made and serves[s] < number]
        while waiting:
            storage = waiting.pop()
            if storage in found:
                continue
            found.add(storage)
            for writer in self.writers[storage]:
                waiting += [
                    r
                    for r in self.reads[writer]
                    if r not in made and serves.get(r, self.uses[r][-1] if r in self.given else number) < number
                ]
        return found

    def _renaming(self, step: int, made: Mapping[int, int]) -> dict[int, int]:
        return {s: made[s] for s in self.touches[step] if s in made}

    def _has_changed(self, step: int, now: int) -> bool:
        """Whether a weight that a step reads is written between the step and `now`."""
        for index in self.program.steps[step].slots:
            slot = self.program.slots[index]
            if slot.place == "weight" and any(step < change < now for change in self.changes.get(slot.name, ())):
                return True
        return False


def _storages(slots: tuple[Slot, ...], indices: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(slots[i].storage for i in indices if slots[i].place == "arena"))
