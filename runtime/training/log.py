"""What a run writes down, besides its weights; docs/runs.md describes the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from dlc.runtime.atomic import replace_file, write_fault

RECIPE, METRICS, LAYERS = "recipe.json", "metrics.jsonl", "layers.jsonl"


class Log:
    """The text files in a run's directory.

    Lines are appended before the checkpoint that they belong to is saved, so those of a run that goes on from it are there;
    lines of what came after it are dropped then, and written again when they come again.
    """

    def __init__(self, out: Path) -> None:
        self._out = out

    def write(self, name: str, facts: Mapping[str, Any]) -> None:
        """Writes a file of one object, indented."""
        with replace_file(self._out / name) as file:
            file.write(msgspec.json.format(msgspec.json.encode(facts)) + b"\n")

    def clear(self) -> None:
        """Begins anew, without lines."""
        (self._out / LAYERS).unlink(missing_ok=True)
        with replace_file(self._out / METRICS):
            pass

    def cut(self, step: int, history: Sequence[Mapping[str, float]]) -> None:
        """Keeps what was written before the step `step` began. Lines of `history` that are missing come back."""
        kept = {line.get("epoch"): line for line in self._lines(METRICS)}
        records = [kept.get(record["epoch"], record) for record in history]
        self._rewrite(METRICS, records)
        if (self._out / LAYERS).exists():
            self._rewrite(LAYERS, [line for line in self._lines(LAYERS) if line.get("step", step) < step])

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """Adds a line to a file of lines. One that a crash of the machine loses comes back as far as the checkpoint has it."""
        path = self._out / name
        try:
            with open(path, "ab") as file:
                file.write(msgspec.json.encode(record) + b"\n")
        except OSError as error:
            raise write_fault(path, error) from error

    def _lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file that are whole."""
        path = self._out / name
        found = []
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                found.append(msgspec.json.decode(line, type=dict[str, Any]))
            except msgspec.DecodeError:
                continue  # cut off in a crash
        return found

    def _rewrite(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        with replace_file(self._out / name) as file:
            file.write(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
