"""A run's directory, read back: the recipe, the epochs, and what was found out about the best weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from dlc.pages.chart import Line
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.training.log import METRICS, RECIPE

EVALUATION = "evaluation.json"


class Mistake(msgspec.Struct, frozen=True):
    """A test image that the network got wrong: `image` is a data URI of the picture as the network was given it."""

    index: int
    truth: int
    answer: int
    probability: float
    image: str


class LayerTime(msgspec.Struct, frozen=True):
    """Milliseconds of a layer's kernels in one training step, and what they do."""

    layer: str
    milliseconds: float


class Evaluation(msgspec.Struct, frozen=True):
    """What was found out about a run's best weights on the test part.

    `confusion[t][a]` counts the test samples of class t that were answered a. `filters` are data URIs of the first
    convolution's kernels. `layers` is the time of a training step of `batch` samples by layer, in the order they run.
    """

    classes: list[str]
    confusion: list[list[int]]
    mistakes: list[Mistake]
    filters: list[str]
    filters_of: str
    layers: list[LayerTime]
    batch: int
    test: dict[str, float]
    best_epoch: int


@dataclass(frozen=True)
class Run:
    """One training run. `history` has a record for each epoch, `layers` one for each time the layers were looked at."""

    folder: Path
    name: str
    recipe: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    layers: Sequence[Mapping[str, Any]] = field(default=())
    evaluation: Evaluation | None = None

    def line(self, measure: str, name: str = "", **options: Any) -> Line | None:
        """The curve of a measure over the epochs, such as "val.error"; None where it was not measured."""
        points = tuple(
            (float(r["epoch"]), float(r[measure]) if r[measure] is not None else math.nan)
            for r in self.history
            if measure in r
        )
        return Line(name or measure, points, **options) if points else None

    def best(self, measure: str) -> Mapping[str, Any] | None:
        """The epoch with the smallest value of a measure."""
        having = [r for r in self.history if r.get(measure) is not None]
        return min(having, key=lambda r: float(r[measure])) if having else None


def read_run(folder: Path) -> Run:
    """The run that a directory holds. Raises RuntimeFault (R0110, R0601) where it holds none, or files that are damaged."""
    if not folder.is_dir():
        raise RuntimeFault(
            "R0601", f"{folder} is no directory of a run", help="give the directory that `dlc train` wrote"
        )
    missing = [name for name in (RECIPE, METRICS) if not (folder / name).is_file()]
    if missing:
        raise RuntimeFault(
            "R0601", f"{folder} holds no run: {missing[0]} is missing", help="give the directory that `dlc train` wrote"
        )
    recipe = _json(folder / RECIPE)
    history = _lines(folder / METRICS)
    if any("epoch" not in record for record in history):
        raise RuntimeFault("R0602", f"{folder / METRICS} has a line without `epoch`")
    evaluation = None
    if (folder / EVALUATION).is_file():
        try:
            evaluation = msgspec.json.decode((folder / EVALUATION).read_bytes(), type=Evaluation)
        except msgspec.MsgspecError as error:
            raise RuntimeFault("R0602", f"{folder / EVALUATION} is damaged: {error}") from error
    return Run(folder, folder.name, recipe, history, _layer_records(folder), evaluation)


def _layer_records(folder: Path) -> list[dict[str, Any]]:
    path = folder / "layers.jsonl"
    return _lines(path) if path.is_file() else []


def _json(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise RuntimeFault("R0602", f"{path} is damaged: {error}") from error


def _lines(path: Path) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            records.append(msgspec.json.decode(line, type=dict[str, Any]))
        except msgspec.MsgspecError as error:
            raise RuntimeFault("R0602", f"line {number} of {path} is damaged: {error}") from error
    return records
