"""What a training step is given: a batch, its labels, the step's number and the rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlc.runtime.data.loader import Batch
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.plan import Program


class Feed:
    """Makes the inputs of a training program."""

    def __init__(self, program: Program, seed: int) -> None:
        """Raises RuntimeFault (R0428) where the network takes more than images."""
        self._names = frozenset(spec.name for spec in program.inputs)
        self._image, self._seed = image_input(program), np.uint32(seed)

    def __call__(self, batch: Batch, step: int, rates: Sequence[float]) -> dict[str, Any]:
        """The inputs by name; `rates` has a learning rate for each optimizer."""
        values = self.samples(batch) | {"train.step": np.uint32(step), "train.seed": self._seed}
        values |= {f"train.rate.{group}": np.float32(rate) for group, rate in enumerate(rates)}
        return {name: value for name, value in values.items() if name in self._names}

    def samples(self, batch: Batch) -> dict[str, Any]:
        """Those of the inputs that the batch holds."""
        values = {self._image: batch.images, "train.labels": batch.labels}
        if batch.mix is not None:
            values |= {"train.other_labels": batch.mix.labels, "train.share": batch.mix.share}
        return values


def image_input(program: Program) -> str:
    """The name of the one input that is fed with images. Raises RuntimeFault (R0428) where there are several."""
    names = [spec.name for spec in program.inputs if not spec.name.startswith("train.")]
    if len(names) != 1:
        raise RuntimeFault(
            "R0428", f"training feeds one input with images, but the network has {len(names)}: {', '.join(names)}"
        )
    return names[0]


def main_labels(batch: Batch) -> np.ndarray:
    """What metrics of training take for right, int32 [n]: of mixed samples the label with the larger share."""
    if batch.mix is None:
        return batch.labels
    return np.where(batch.mix.share >= 0.5, batch.labels, batch.mix.labels)
