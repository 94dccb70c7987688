"""What a run writes down: recipe.json, and metrics.jsonl with one line for each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from dlc.runtime.atomic import replace_file, write_fault

RECIPE, METRICS = "recipe.json", "metrics.jsonl"


class Log:
    """The two files in a run's directory."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def write_recipe(self, facts: Mapping[str, Any]) -> None:
        """Writes recipe.json, indented."""
        with replace_file(self._out / RECIPE) as file:
            file.write(msgspec.json.format(msgspec.json.encode(facts)) + b"\n")

    def rewrite(self, history: Sequence[Mapping[str, float]]) -> None:
        """Makes metrics.jsonl hold exactly these epochs: lines after the checkpoint that a run goes on from disappear."""
        with replace_file(self._out / METRICS) as file:
            file.write(b"".join(msgspec.json.encode(record) + b"\n" for record in history))

    def append(self, record: Mapping[str, float]) -> None:
        """Adds one epoch to metrics.jsonl. A line lost in a crash comes back with the checkpoint that a run goes on from."""
        path = self._out / METRICS
        try:
            with open(path, "ab") as file:
                file.write(msgspec.json.encode(record) + b"\n")
        except OSError as error:
            raise write_fault(path, error) from error
