"""The bar that a person sees on a terminal while something is compiled that takes long."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE = 2.0
"""Seconds of compiling before there is a bar."""


class CompilingBar:
    """Shows, in a `with` block, how far compiling is, on a standard error that is a terminal; nothing elsewhere.

    It is called with the part that is done, 0 to 1, and is gone when the block ends.
    """

    def __init__(self, *, shown: bool = True) -> None:
        self._shown = shown and sys.stderr.isatty()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: float) -> None:
        """So much is done."""
        if not self._shown or (self._bar is None and time.monotonic() - self._started < PATIENCE):
            return
        if self._bar is None:
            self._bar = _bar()
            self._task = self._bar.add_task("compiling", total=1.0)
            self._bar.start()
        assert self._task is not None
        self._bar.update(self._task, completed=done)


class TuningBar:
    """Shows, in a `with` block, how a search goes, on a standard error that is a terminal; nothing elsewhere.

    It is called with what is measured now, and the part of the time that is over, 0 to 1.
    """

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task("tuning", total=1.0)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, what: str, part: float) -> None:
        """This is measured now, so much of the time is over."""
        if self._bar is not None:
            assert self._task is not None
            self._bar.update(self._task, completed=part, description=what)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
