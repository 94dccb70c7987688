"""A softmax regression in numpy that stands in for compiled programs, and a command that trains it.

Run as a script by the tests that kill a training run: `linear_run.py OUT [--resume] [--pause SECONDS]`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlc.runtime.data.prepare import Prepared, prepare
from dlc.runtime.data.sources.base import Dataset, Split
from dlc.runtime.data.transforms.flip import Flip
from dlc.runtime.data.transforms.shift import Shift
from dlc.runtime.layout import Layout
from dlc.runtime.plan import BATCH, Program, TensorSpec, WeightSpec
from dlc.runtime.training.loop import Trainer
from dlc.runtime.training.options import TrainingOptions
from dlc.runtime.training.progress import Progress
from dlc.runtime.training.schedules.base import Duration
from dlc.runtime.training.schedules.cosine import Cosine
from dlc.runtime.training.schedules.warmup import Warmup

SIDE, CLASSES, BLOCK = 6, 4, 8
FEATURES = SIDE * SIDE
PACKED = Layout(
    (CLASSES, FEATURES), (CLASSES, FEATURES), (BLOCK, FEATURES), (1, BLOCK, FEATURES), (0, 2, 1), (1, FEATURES, BLOCK)
)
WEIGHTS = (
    WeightSpec("out.weight", PACKED.packed, "float32", PACKED),
    WeightSpec("out.bias", (CLASSES,), "float32"),
    WeightSpec("norm.running_mean", (1,), "float32", None, "statistic"),
    WeightSpec("out.weight@momentum", PACKED.packed, "float32", PACKED, "state"),
    WeightSpec("out.bias@momentum", (CLASSES,), "float32", None, "state"),
)


def initial_weights() -> dict[str, np.ndarray]:
    weights = {spec.name: np.zeros(spec.shape, np.float32) for spec in WEIGHTS}
    values = np.random.default_rng(1).normal(0, 0.1, (CLASSES, FEATURES)).astype(np.float32)
    weights["out.weight"][...] = PACKED.pack(values)
    return weights


class Evaluation:
    """Scores."""

    program = Program(
        (TensorSpec("image", (BATCH, 1, SIDE, SIDE), "float32"),),
        (TensorSpec("logits", (BATCH, CLASSES), "float32"),),
        WEIGHTS[:3], (), (),
    )  # fmt: skip

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights

    def run(self, inputs: Mapping[str, Any], outputs: Any = None) -> dict[str, np.ndarray]:
        x = inputs["image"].reshape(-1, FEATURES) - self.weights["norm.running_mean"]
        return {"logits": x @ self.weights["out.weight"][0, :, :CLASSES] + self.weights["out.bias"]}


class Step:
    """One step of gradient descent with momentum, and noise that depends on the seed and the step."""

    program = Program(
        (
            TensorSpec("image", (16, 1, SIDE, SIDE), "float32"),
            TensorSpec("train.labels", (16,), "int32"),
            TensorSpec("train.rate.0", (), "float32"),
            TensorSpec("train.step", (), "uint32"),
            TensorSpec("train.seed", (), "uint32"),
        ),
        (TensorSpec("train.loss", (), "float32"), TensorSpec("logits", (16, CLASSES), "float32")),
        WEIGHTS, (), (), 16,
    )  # fmt: skip

    def __init__(self, weights: dict[str, np.ndarray], pause: float = 0.0, broken_at: int = -1) -> None:
        self.weights, self.pause, self.broken_at = weights, pause, broken_at
        self.seen: list[dict[str, Any]] = []

    def run(self, inputs: Mapping[str, Any], outputs: Any = None) -> dict[str, np.ndarray]:
        self.seen.append(dict(inputs))
        if self.pause:
            time.sleep(self.pause)
        w, labels, rate = self.weights, inputs["train.labels"], inputs["train.rate.0"]
        logits = Evaluation(w).run(inputs)["logits"]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        loss = -np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-30)).mean()
        p[np.arange(len(labels)), labels] -= 1
        x = inputs["image"].reshape(-1, FEATURES)
        noise = np.random.default_rng([inputs["train.seed"], inputs["train.step"]]).random(FEATURES, np.float32)
        w["out.weight@momentum"][0, :, :CLASSES] *= 0.9
        w["out.weight@momentum"][0, :, :CLASSES] += (x * noise).T @ p / len(labels)
        w["out.bias@momentum"][...] = 0.9 * w["out.bias@momentum"] + p.mean(0)
        for name in ("out.weight", "out.bias"):
            w[name] -= rate * w[f"{name}@momentum"]
        w["norm.running_mean"] += np.float32(0.1) * (x.mean() - w["norm.running_mean"])
        if inputs["train.step"] == self.broken_at:
            loss = np.float32(np.nan)
            w["out.weight"][...] = np.nan
        return {"train.loss": np.float32(loss), "logits": logits}


def blobs(validate: float = 0.25) -> Prepared:
    """Four classes of noisy patterns, 160 to train and 40 to test."""
    r = np.random.default_rng(0)
    patterns = r.integers(0, 256, (CLASSES, 1, SIDE, SIDE))

    def part(count: int) -> Split:
        labels = (np.arange(count) % CLASSES).astype(np.int32)
        return Split(
            np.clip(patterns[labels] + r.normal(0, 90, (count, 1, SIDE, SIDE)), 0, 255).astype(np.uint8), labels
        )

    dataset = Dataset(part(160), part(40), tuple("abcd"))
    return prepare(dataset, validate=validate, normalize="per_channel")


def trainer(
    out: Path,
    *,
    pause: float = 0.0,
    broken_at: int = -1,
    progress: Progress | None = None,
    validate: float = 0.25,
    **changes: Any,
) -> Trainer:
    weights = initial_weights()
    settings: dict[str, Any] = {
        "batch": 16, "rates": (0.2,), "epochs": 6, "schedules": (Warmup(Duration(1, "epoch")), Cosine()),
        "augment": (Shift(1), Flip()), "seed": 5, "save_steps": 3, "recipe": {"recipe": {"epochs": "6"}},
    } | changes  # fmt: skip
    step = Step(weights, pause, broken_at)
    return Trainer(step, Evaluation(weights), weights, blobs(validate), TrainingOptions(**settings), out, progress)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--pause", type=float, default=0.0)
    given = parser.parse_args()
    print("ready", flush=True)
    trainer(given.out, pause=given.pause).run(resume=given.resume)
