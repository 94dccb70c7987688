"""The learning rate of every step: schedules one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlc.runtime.errors import RuntimeFault
from dlc.runtime.training.schedules.base import Condition, Position, Schedule

Ends = Mapping[int, int]
"""For schedules that wait for a condition: their place in the sequence -> the step after which it was the case."""


class Rates:
    """The rates of a run of `steps` steps, one for each base rate (optimizer group).

    Schedules follow each other as written; each starts at its own step 0 from the base rate. The last may end early: its
    final rate then holds. No schedule means the base rate throughout. What depends on how training goes is given with each
    question, so that rates follow from a checkpoint alone.
    """

    def __init__(
        self, schedules: Sequence[Schedule], bases: Sequence[float], *, steps: int, steps_per_epoch: int
    ) -> None:
        """Raises RuntimeFault where a schedule that never ends has another one after it."""
        self.schedules, self.bases, self.steps_per_epoch = tuple(schedules), tuple(bases), steps_per_epoch
        self.steps = steps
        for schedule, after in zip(self.schedules, self.schedules[1:], strict=False):
            if schedule.length(steps_per_epoch) is None and schedule.condition() is None:
                raise RuntimeFault(
                    "R0420",
                    f"`{schedule.keyword}` lasts to the end of training, so `{after.keyword}` never starts",
                    help=f"give it a duration: {schedule.keyword}(duration=2 epochs)",
                )

    def at(self, step: int, history: Sequence[Mapping[str, float]] = (), ends: Ends | None = None) -> tuple[float, ...]:
        """The rates for the step with this number, counted from 0. `history` holds the epochs' records so far."""
        if not self.schedules:
            return self.bases
        index, start, end = self._segment(step, ends or {})
        since = [record for record in history if record["step"] > start]
        position = Position(min(step - start, end - start), end - start, self.steps_per_epoch, since)
        return tuple(self.schedules[index].rate(base, position) for base in self.bases)

    def waits_for(self, step: int, ends: Ends) -> tuple[int, Condition] | None:
        """The place of the schedule of a step and the condition that it waits for, if it waits for one."""
        if not self.schedules:
            return None
        index, *_ = self._segment(step, ends)
        condition = self.schedules[index].condition()
        return None if condition is None or index in ends else (index, condition)

    def _segment(self, step: int, ends: Ends) -> tuple[int, int, int]:
        """The place of the schedule that a step belongs to, and the steps at which it starts and ends."""
        start = 0.0
        last = len(self.schedules) - 1
        for index, schedule in enumerate(self.schedules):
            length = schedule.length(self.steps_per_epoch)
            end = max(self.steps, start) if length is None else start + length
            if index in ends:
                end = min(end, ends[index])
            if step < round(end) or index == last:
                return index, round(start), round(end)
            start = end
        raise AssertionError("a sequence of schedules has a last one")
