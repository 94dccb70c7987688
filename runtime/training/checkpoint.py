"""Checkpoints: the weight files of a run, and the one file from which it goes on.

`last.safetensors` and `best.safetensors` are ordinary weight files: canonical weights under their plain names. A run goes on
from `resume.safetensors` alone, which holds the weights again, the optimizer's state, and where training stood. So weights
and state come from the same instant, whenever the process is killed: each file is whole or the one before.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from dlc.runtime.errors import RuntimeFault
from dlc.runtime.plan import AVERAGE, Program, WeightSpec
from dlc.runtime.weights import load_notes, load_weights, match, save_weights

LAST, BEST, RESUME = "last.safetensors", "best.safetensors", "resume.safetensors"
NOTE, CHECK = "training", "crc32"


class TrainingState(msgspec.Struct):
    """Where training stands, apart from weights and optimizer state. JSON keeps every float exactly.

    `step` counts finished steps. `sums` are totals over the steps of the unfinished epoch, `seconds` is the time spent on
    it and `elapsed` on all of the run. `best` is the best value of what is monitored and `best_epoch` its epoch, from 1.
    `recent` holds values of the last steps that a schedule's condition is about, `ends` the steps at which such conditions
    were fulfilled, by the schedule's place. `identity` is what must be the same for a run to go on: the recipe, the data, the numbers of steps.
    """

    identity: dict[str, Any]
    step: int = 0
    sums: dict[str, float] = {}
    seconds: float = 0.0
    elapsed: float = 0.0
    history: list[dict[str, float]] = []
    recent: list[float] = []
    ends: dict[int, int] = {}
    best: float | None = None
    best_epoch: int = 0
    finished: bool = False


class Mirror(Protocol):
    """A device that holds copies of the arrays, on which programs work."""

    def fetch(self) -> None:
        """Brings the arrays up to date."""

    def push(self) -> None:
        """Brings the copies up to date."""


class Weights:
    """The weight arrays of a training program, in the form that kernels read, seen in canonical form.

    Where weights have averages, these are what files without state hold, and what such files are put into, besides the
    weights themselves. `mirror` is where the program works on copies of them.
    """

    def __init__(self, program: Program, arrays: Mapping[str, np.ndarray], mirror: Mirror | None = None) -> None:
        self._specs = [spec for spec in program.weights if spec.role != "derived"]
        self._arrays, self._mirror = arrays, mirror

    def canonical(self, *, state: bool) -> dict[str, np.ndarray]:
        """Canonical arrays by name: all with the optimizer's state, or without it the averages in the weights' place.

        Raises RuntimeFault (R0422) where one holds a NaN or an infinity: such weights are never saved.
        """
        if self._mirror is not None:
            self._mirror.fetch()
        result = {}
        for spec in self._specs:
            if spec.role == "state" and not state:
                continue
            array = (
                self._arrays[spec.name] if state else self._arrays.get(average_of(spec.name), self._arrays[spec.name])
            )
            result[spec.name] = array if spec.layout is None else spec.layout.unpack(array)
            if array.dtype.kind not in "iub" and not np.isfinite(result[spec.name]).all():
                raise RuntimeFault(
                    "R0422",
                    f"{spec.name} holds a NaN or an infinity",
                    help="a smaller learning rate, a warm-up or gradient clipping may help",
                )
        return result

    def restore(self, arrays: Mapping[str, np.ndarray], origin: str, *, state: bool) -> None:
        """Puts canonical arrays into the program's. Raises RuntimeFault (R0403) where names or shapes do not fit."""
        specs = [spec for spec in self._specs if state or spec.role != "state"]
        match({spec.name: _shape(spec) for spec in specs}, arrays, origin)
        for spec in specs:
            value = arrays[spec.name]
            packed = value if spec.layout is None else spec.layout.pack(value)
            self._arrays[spec.name][...] = packed
            if not state and average_of(spec.name) in self._arrays:
                self._arrays[average_of(spec.name)][...] = packed
        if self._mirror is not None:
            self._mirror.push()


def average_of(name: str) -> str:
    """The name of the state that holds a weight's average."""
    return f"{name}@{AVERAGE}"


def _check(arrays: Mapping[str, np.ndarray], note: str) -> str:
    """A checksum over everything that a run goes on from: names, numbers and where training stood."""
    found = zlib.crc32(note.encode())
    for name in sorted(arrays):
        found = zlib.crc32(np.ascontiguousarray(arrays[name]).data, zlib.crc32(name.encode(), found))
    return f"{found:08x}"


def _shape(spec: WeightSpec) -> tuple[int, ...]:
    return spec.shape if spec.layout is None else spec.layout.canonical_shape


class Checkpoints:
    """The weight files and the resume file in a run's directory, each written whole or not at all."""

    def __init__(self, out: Path, weights: Weights) -> None:
        self._out, self._weights = out, weights

    def clear(self) -> None:
        """Removes the files of an earlier run, the one that it could go on from first."""
        for name in (RESUME, LAST, BEST):
            (self._out / name).unlink(missing_ok=True)

    def save(self, state: TrainingState) -> None:
        """Writes the resume file. Raises RuntimeFault where that fails, or a weight is not finite; the old one stays."""
        arrays, note = self._weights.canonical(state=True), msgspec.json.encode(state).decode()
        save_weights(self._out / RESUME, arrays, {NOTE: note, CHECK: _check(arrays, note)})

    def export(self, name: str, state: TrainingState) -> None:
        """Writes the weights alone as `name`. Raises as `save`."""
        save_weights(self._out / name, self._weights.canonical(state=False), {"step": str(state.step)})

    def restore(self) -> TrainingState | None:
        """Puts back weights and optimizer state and returns where training stood; None if nothing was saved.

        Raises RuntimeFault where the file is damaged or belongs to another network.
        """
        path = self._out / RESUME
        if not path.exists():
            return None
        notes, arrays = load_notes(path), load_weights(path)
        note = notes.get(NOTE)
        if note is None:
            raise RuntimeFault("R0423", f"{path} holds weights, but nothing to go on from")
        try:
            state = msgspec.json.decode(note, type=TrainingState)
        except msgspec.DecodeError as error:
            raise RuntimeFault("R0423", f"{path} is from another version of dlc: {error}") from error
        if notes.get(CHECK) != _check(arrays, note):
            raise RuntimeFault(
                "R0423",
                f"{path} is damaged: its contents are not what was saved",
                help="begin anew, without --resume; last.safetensors beside it may be whole: `init from` it",
            )
        self._weights.restore(arrays, str(path), state=True)
        return state

    def restore_best(self) -> None:
        """Puts the best weights into the program's arrays. Raises RuntimeFault where the file is missing or damaged."""
        path = self._out / BEST
        self._weights.restore(load_weights(path), str(path), state=False)
