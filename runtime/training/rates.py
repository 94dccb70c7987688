"""The learning rate of every step: schedules one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from dlc.runtime.errors import RuntimeFault
from dlc.runtime.training.schedules.base import Position, Schedule


class Rates:
    """The rates of a run of `steps` steps, one for each base rate (optimizer group).

    Schedules follow each other as written; each starts at its own step 0 from the base rate. The last may end early: its
    final rate then holds. No schedule means the base rate throughout.
    """

    def __init__(
        self, schedules: Sequence[Schedule], bases: Sequence[float], *, steps: int, steps_per_epoch: int
    ) -> None:
        """Raises RuntimeFault where a schedule that never ends has another one after it."""
        self.schedules, self.bases, self.steps_per_epoch = tuple(schedules), tuple(bases), steps_per_epoch
        self._starts: list[int] = []
        self._lengths: list[int] = []
        start = 0.0
        for index, schedule in enumerate(self.schedules):
            length = schedule.length(steps_per_epoch)
            if length is None and index + 1 < len(self.schedules):
                raise RuntimeFault(
                    "R0420",
                    f"`{schedule.keyword}` lasts to the end of training, so `{self.schedules[index + 1].keyword}` never starts",
                    help=f"give it a duration: {schedule.keyword}(duration=2 epochs)",
                )
            end = max(steps, start) if length is None else start + length
            self._starts.append(round(start))
            self._lengths.append(round(end) - round(start))
            start = end

    def at(self, step: int) -> tuple[float, ...]:
        """The rates for the step with this number, counted from 0."""
        if not self.schedules:
            return self.bases
        index = bisect_right(self._starts, step) - 1
        length = self._lengths[index]
        position = Position(min(step - self._starts[index], length), length, self.steps_per_epoch)
        return tuple(self.schedules[index].rate(base, position) for base in self.bases)
