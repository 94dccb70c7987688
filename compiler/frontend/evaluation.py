"""What an evaluation keeps besides values: the report, the limits that are used up, the calls that are open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dlc.compiler.frontend.assembly import Assembly
from dlc.compiler.frontend.calls import ActiveCall
from dlc.compiler.frontend.limits import DEFAULT, Limits
from dlc.compiler.frontend.report import Report, Stop
from dlc.compiler.frontend.values import POISON, BlockFunction, ModelFunction, Poison
from dlc.compiler.frontend.vocabulary import Vocabulary
from dlc.compiler.network import Frame
from dlc.compiler.source import Span


class Evaluation:
    """The state of an evaluator."""

    def __init__(self, report: Report, vocabulary: Vocabulary, limits: Limits = DEFAULT) -> None:
        self.report = report
        self.vocabulary = vocabulary
        self.limits = limits
        self.assembly = Assembly()
        self.calls = report.calls
        self.frames: tuple[Frame, ...] = ()
        self.entered: set[BlockFunction | ModelFunction] = set()  # those whose bodies have been evaluated
        self.steps = 0
        self.depth = 0
        self.endless: set[str] = set()  # names of what calls itself without end

    def error(
        self, code: str, message: str, span: Span, label: str = "", *, notes: Sequence[str] = (), help: str = ""
    ) -> Poison:
        """Reports a mistake; the value that stands for it."""
        self.report.error(code, message, span, label, notes=notes, help=help)
        return POISON

    def stop(self, code: str, message: str, span: Span, help: str = "") -> Stop:
        """Reports that a limit is passed; the exception that ends the evaluation of this model."""
        self.error(code, message, span, help=help)
        return Stop()

    @contextmanager
    def inside(self, active: ActiveCall, span: Span) -> Iterator[None]:
        """The body of a block or a model, one call deeper. Raises Stop where that is too deep."""
        if len(self.calls) >= self.limits.block_depth:
            again = [c for c in self.calls if c.name == active.name]
            self.endless |= {c.name for c in self.calls[-len(self.calls) // 2 :]} if len(again) > 2 else set()
            message = (
                f"`{active.name}` calls itself without end" if len(again) > 2 else "blocks call one another too deeply"
            )
            raise self.stop(
                "E0901", message, span, help=f"{self.limits.block_depth} calls inside one another are the limit"
            )
        frames_before = self.frames
        self.calls.append(active)
        if active.span is not None:
            self.frames = (Frame(active.description, active.span, self.assembly.scope.prefix), *self.frames)
        try:
            yield
        finally:
            self.calls.pop()
            self.frames = frames_before
