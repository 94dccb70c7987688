"""What a person sees while training runs: a bar on a terminal, one line for each epoch elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

REFRESH = 0.1
"""Seconds between two drawings of the bar."""


class Progress(Protocol):
    """Told by the trainer how it goes."""

    def start(self, done: int, total: int, steps_per_epoch: int, batch: int) -> None:
        """Training begins with `done` of `total` steps already made."""

    def step(self, done: int, loss: float, error: float) -> None:
        """A step is made; loss and error are means over the epoch so far."""

    def epoch(self, record: Mapping[str, float]) -> None:
        """An epoch is over; the record is its line of the log."""

    def note(self, text: str) -> None:
        """Something else that should be known."""

    def close(self) -> None:
        """Training is over, whether it ended well or not."""


class Silent:
    """Shows nothing."""

    def start(self, done: int, total: int, steps_per_epoch: int, batch: int) -> None:
        """Nothing."""

    def step(self, done: int, loss: float, error: float) -> None:
        """Nothing."""

    def epoch(self, record: Mapping[str, float]) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines(Silent):
    """One line for each epoch."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._epochs = 0

    def start(self, done: int, total: int, steps_per_epoch: int, batch: int) -> None:
        """Takes note of the number of epochs."""
        self._epochs = -(-total // steps_per_epoch)

    def epoch(self, record: Mapping[str, float]) -> None:
        """Prints the epoch."""
        self.note(epoch_line(record, self._epochs))

    def note(self, text: str) -> None:
        """Prints it."""
        print(text, file=self._stream, flush=True)


class Bar(Lines):
    """A bar with loss, error, images a second and the time left; finished epochs scroll above it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._shown: RichProgress | None = None
        self._task: TaskID | None = None
        self._batch = self._steps_per_epoch = 1
        self._first = 0
        self._begun = self._drawn = 0.0

    def start(self, done: int, total: int, steps_per_epoch: int, batch: int) -> None:
        """Draws the empty bar."""
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as RichProgress

        super().start(done, total, steps_per_epoch, batch)
        self._batch, self._steps_per_epoch, self._first = batch, steps_per_epoch, done
        self._total, self._begun = total, time.perf_counter()
        self._shown = RichProgress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[facts]}"),
            console=Console(file=self._stream),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._shown.add_task("", total=total, completed=done, epoch=self._epoch(done), facts="")
        self._shown.start()

    def step(self, done: int, loss: float, error: float) -> None:
        """Draws the bar anew, if the last drawing is not too recent."""
        now = time.perf_counter()
        if now - self._drawn < REFRESH or self._shown is None or self._task is None:
            return
        self._drawn = now
        rate = (done - self._first) / max(now - self._begun, 1e-9)
        left = (self._total - done) / max(rate, 1e-9)
        facts = f"loss {loss:.4f}  error {error:.2%}  {rate * self._batch:,.0f} images/s  {duration(left)} left"
        self._shown.update(self._task, completed=done, epoch=self._epoch(done), facts=facts, refresh=True)

    def note(self, text: str) -> None:
        """Prints it above the bar."""
        if self._shown is None:
            super().note(text)
        else:
            self._shown.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Removes the bar."""
        if self._shown is not None:
            self._shown.stop()
            self._shown = None

    def _epoch(self, done: int) -> str:
        return f"{min(done // self._steps_per_epoch + 1, self._epochs)}/{self._epochs}"


def progress_on(stream: TextIO | None = None) -> Progress:
    """A bar where the stream (standard error by default) is a terminal, lines where it is not."""
    stream = stream or sys.stderr
    return Bar(stream) if stream.isatty() else Lines(stream)


def epoch_line(record: Mapping[str, float], epochs: int) -> str:
    """One epoch as a line: its number, losses, metrics as percentages where they are shares, speed and time."""
    width = len(str(epochs))
    parts = [f"epoch {int(record['epoch']):{width}d}/{epochs}"]
    for name, value in record.items():
        part, _, measure = name.partition(".")
        if part in ("train", "val") and measure:
            share = measure.endswith(("error", "accuracy"))
            parts.append(f"{name} {value:.2%}" if share else f"{name} {value:.4f}")
    parts += [f"{record['images_per_second']:,.0f} images/s", duration(record["seconds"])]
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people read them: "4.2 s", "3:07 min", "2:15 h"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"
