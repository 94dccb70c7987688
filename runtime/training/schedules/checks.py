"""Checks that several schedules make on their arguments."""

from __future__ import annotations

import math

from dlc.runtime.arguments import ArgumentError
from dlc.runtime.training.schedules.base import Duration


def check_duration(field: str, duration: Duration | None) -> None:
    """Raises ArgumentError unless the duration is longer than nothing (None passes)."""
    if duration is not None and not 0 < duration.amount < math.inf:
        raise ArgumentError(field, f"must be longer than 0 {duration.unit}s")


def check_rate(field: str, rate: float) -> None:
    """Raises ArgumentError unless the rate is 0 or more."""
    if not 0 <= rate < math.inf:
        raise ArgumentError(field, f"must be 0 or more, not {rate}")


def check_factor(field: str, factor: float) -> None:
    """Raises ArgumentError unless the factor is above 0."""
    if not 0 < factor < math.inf:
        raise ArgumentError(field, f"must be above 0, not {factor}")
