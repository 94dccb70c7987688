"""Training that diverged: what is said about it."""

from __future__ import annotations

from dlc.runtime.errors import RuntimeFault
from dlc.runtime.training.watch import Finding

DIVERGED, NOT_FINITE = "R0421", "R0422"
ADVICE = "a smaller learning rate, a warm-up or gradient clipping may help"


def diverged(message: str, finding: Finding | None = None, step: int = 0, kept: str = "") -> RuntimeFault:
    """The fault for a number that is no longer finite; with the first of them, the step it came up in, and what is kept."""
    if finding is not None:
        message = f"{message}; the first that is not finite: {finding}, at step {step}"
    last = f"the last good checkpoint is {kept}" if kept else "the last checkpoint is kept"
    return RuntimeFault("R0421", message, help=f"{ADVICE}; {last}")
