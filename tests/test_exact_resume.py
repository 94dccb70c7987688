"""A compiled run that breaks off at any step goes on to the same bits: every optimizer, with schedules, averages, parts and mixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc.api import recipe_of
from dlc.compiler.initial import initial_state, initial_weights
from dlc.runtime.data.prepare import prepare
from dlc.runtime.data.sources.base import Dataset, Split
from dlc.runtime.training.loop import Trainer
from dlc.runtime.training.progress import Silent
from dlc.training import TrainingSession, options_of

SPEC = """
model Small {{
    input image: [1, 8, 8]
    image -> c1: conv(4, 3) -> batch_norm -> relu -> flatten -> dropout(0.2) -> out: linear(10) -> output y
}}
data digits {{
    source mnist-mini
    validate 20%
    resize 8
    augment {augment}
}}
train T {{
    model Small
    data digits
    loss cross_entropy
    optimizer {optimizer}
    batch 16
    epochs 3
    {more}
}}
"""
CASES = {
    "sgd, averages, cyclic, parts, mixup": (
        "sgd(lr=0.1, momentum=0.9, nesterov=true)", "shift(1) -> mixup",
        "average ema(0.9); accumulate 2; schedule cyclic(0.01, 3 steps, form=triangular2)",
    ),
    "adam, plateau, cutmix": (
        "adam(lr=0.05)", "flip -> cutmix",
        "average ema(0.9, ramp=true); schedule reduce_on_plateau(factor=0.5, patience=0, threshold=0.5)",
    ),
    "adamw, one cycle, clipping": (
        "adamw(lr=0.05), sgd(lr=0.1, momentum=0.5, form=lecture) for out", "rotate(10deg)", "schedule one_cycle; regularize clip_norm(0.5)",
    ),
    "adagrad, a condition": (
        "adagrad(lr=0.05), frozen for out.bias", "cutout(2)", "schedule constant(rate=0.01, until=val.loss < 5) then step(every=2 steps)",
    ),
    "rmsprop, a sequence": ("rmsprop(lr=0.01, momentum=0.5)", "scale(0.9, 1.1)", "schedule warmup(3 steps) then cosine(to=0)"),
    "sgd, bfloat16, parts": ("sgd(lr=0.1, momentum=0.9)", "shift(1)", "precision bf16; accumulate 2; average ema(0.9)"),
    "rprop, elastic net": ("rprop", "elastic", "regularize elastic_net(1e-4, 1e-3)"),
}  # fmt: skip


class StopsAt(Silent):
    """Breaks off when a step is done."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, done: int, loss: float, error: float) -> None:
        if done == self.at:
            raise KeyboardInterrupt


def dataset() -> Dataset:
    """Ten classes of noisy patterns, 240 to train."""
    r = np.random.default_rng(0)
    patterns = r.integers(0, 256, (10, 1, 8, 8))

    def part(count: int) -> Split:
        labels = (np.arange(count) % 10).astype(np.int32)
        images = np.clip(patterns[labels] + r.normal(0, 120, (count, 1, 8, 8)), 0, 255)
        return Split(images.astype(np.uint8), labels)

    return Dataset(part(240), part(40), tuple("0123456789"))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::dlc.SpecWarning")
def test_a_run_that_breaks_off_goes_on_to_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    optimizer, augment, more = CASES[name]
    path = tmp_path / "small.dlspec"
    path.write_text(SPEC.format(optimizer=optimizer, augment=augment, more=more.replace("; ", "\n    ")))
    recipe = recipe_of(path)
    session = TrainingSession(recipe)
    start = {**initial_weights(recipe.network, recipe), **initial_state(recipe)}
    prepared = prepare(dataset(), validate=recipe.data.validate, normalize="per_channel")
    options: Any = options_of(recipe)
    object.__setattr__(options, "save_steps", 5)

    def run(folder: str, stop: int = 0, resume: bool = False) -> None:
        session.set_weights(start)
        progress = StopsAt(stop) if stop else Silent()
        arrays = session.arrays
        Trainer(session.step, session.evaluation, arrays, prepared, options, tmp_path / folder, progress).run(
            resume=resume
        )

    run("whole")
    for stop in (3, 12, 29):
        with pytest.raises(KeyboardInterrupt):
            run(f"broken{stop}", stop)
        run(f"broken{stop}", resume=True)

        for file in ("last.safetensors", "best.safetensors"):
            whole, broken = (tmp_path / folder / file for folder in ("whole", f"broken{stop}"))
            assert whole.read_bytes() == broken.read_bytes(), (stop, file)
