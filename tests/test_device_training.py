"""Training on a device whose memory is apart: the same bits as in the processor's, checkpoints and evaluation included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc import api
from dlc.compiler.codegen.cache import BuildOptions, user_cache
from dlc.placement import OnGpu
from dlc.runtime import device
from dlc.runtime.data.prepare import prepare
from dlc.runtime.data.sources.base import Dataset, Split
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.training.loop import Trainer
from dlc.runtime.training.progress import Silent
from dlc.training import TrainingSession, options_of

pytestmark = pytest.mark.filterwarnings("ignore::dlc.SpecWarning")

SPEC = """
model Small {{
    input image: [1, 8, 8]
    image -> c1: conv(4, 3) -> batch_norm -> relu -> flatten -> dropout(0.2) -> out: linear(10) -> output y
}}
data digits {{
    source mnist-mini
    validate 20%
    resize 8
}}
train T {{
    model Small
    data digits
    loss cross_entropy
    optimizer sgd(lr=0.1, momentum=0.9)
    average ema(0.9)
    batch 16
    epochs 2
    {more}
}}
"""


class StopsAt(Silent):
    """Breaks off when a step is done."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, done: int, loss: float, error: float) -> None:
        if done == self.at:
            raise KeyboardInterrupt


def dataset() -> Dataset:
    generator = np.random.default_rng(0)

    def part(count: int) -> Split:
        images = generator.integers(0, 256, (count, 1, 8, 8)).astype(np.uint8)
        return Split(images, (np.arange(count) % 10).astype(np.int32))

    return Dataset(part(120), part(40), tuple("0123456789"))


def spec(folder: Path, more: str = "") -> Path:
    path = folder / "small.dlspec"
    path.write_text(SPEC.format(more=more))
    return path


@pytest.mark.parametrize("more", ["", "accumulate 2"])
def test_a_run_on_a_device_leaves_the_processors_files_also_when_it_breaks_off(
    more: str, tmp_path: Path, stand_in: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    recipe = api.recipe_of(spec(tmp_path, more))
    prepared = prepare(dataset(), validate=recipe.data.validate, normalize="per_channel")
    options: Any = options_of(recipe)
    object.__setattr__(options, "save_steps", 3)

    def run(name: str, gpu: Any, stop: int = 0, resume: bool = False) -> dict[str, float]:
        place = None if gpu is None else OnGpu(gpu)
        session = TrainingSession(recipe, options=BuildOptions(user_cache()), place=place)
        trainer = Trainer(
            session.step,
            session.evaluation,
            session.arrays,
            prepared,
            options,
            tmp_path / name,
            StopsAt(stop) if stop else Silent(),
            mirror=session.place,
            expect=session.expect,
        )
        return dict(trainer.run(resume=resume).test)

    gpu = stand_in()
    expected = run("processor", None)
    assert run("device", gpu) == expected
    with pytest.raises(KeyboardInterrupt):
        run("broken", stand_in(), stop=5)
    assert run("broken", stand_in(), resume=True) == expected
    for file in ("last.safetensors", "best.safetensors"):
        whole = (tmp_path / "processor" / file).read_bytes()
        assert (tmp_path / "device" / file).read_bytes() == whole
        assert (tmp_path / "broken" / file).read_bytes() == whole
    assert ("upload aside" in gpu.log) == (not more)
    assert "launch" in gpu.log


def test_dense_evaluation_reads_the_weights_that_the_device_holds(tmp_path: Path, stand_in: Callable[..., Any]) -> None:
    recipe = api.recipe_of(spec(tmp_path))
    options, images = BuildOptions(user_cache()), np.random.default_rng(1).standard_normal((2, 1, 8, 8), np.float32)
    results = []
    for place in (None, OnGpu(stand_in())):
        session = TrainingSession(recipe, options=options, dense=(8, 8), place=place)
        feeds = {s.name: np.zeros(s.shape, s.dtype) for s in session.step.program.inputs} | {
            "image": np.repeat(images, 8, 0)
        }
        session.step.run(feeds | {"train.rate.0": np.float32(0.1)})
        results.append(session.scores(images))

    np.testing.assert_array_equal(results[0], results[1])


def test_setting_one_weight_keeps_what_steps_on_the_device_made_of_the_others(
    tmp_path: Path, stand_in: Callable[..., Any]
) -> None:
    recipe = api.recipe_of(spec(tmp_path))
    images = np.random.default_rng(1).standard_normal((16, 1, 8, 8), np.float32)
    results = []
    for place in (None, OnGpu(stand_in())):
        session = TrainingSession(recipe, options=BuildOptions(user_cache()), place=place)
        feeds = {s.name: np.zeros(s.shape, s.dtype) for s in session.step.program.inputs} | {"image": images}
        session.step.run(feeds | {"train.rate.0": np.float32(0.1)})
        session.set_weights({"out.bias": np.arange(10, dtype=np.float32)})
        results.append(session.scores(images))

    np.testing.assert_array_equal(results[0], results[1])
    assert results[0].argmax(1).tolist() == [9] * 16


def test_a_device_that_is_too_small_says_so(tmp_path: Path, stand_in: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeFault, match="R0207"):
        TrainingSession(
            api.recipe_of(spec(tmp_path)), options=BuildOptions(user_cache()), place=OnGpu(stand_in(limit=100))
        )


def test_training_for_a_gpu_that_is_not_there_says_why_before_anything_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "cuda_device", lambda: device.Device("cuda", False, "no NVIDIA driver is installed"))

    with pytest.raises(RuntimeFault, match=r"R0108.*no NVIDIA driver is installed"):
        api.train(spec(tmp_path), out=tmp_path / "run", target="cuda")
    assert not (tmp_path / "run").exists()


def test_training_for_another_gpu_or_processor_names_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_device", lambda: device.Device("cuda", True, "NVIDIA H200, sm_90"))

    with pytest.raises(RuntimeFault, match=r"R0107[\s\S]*cuda:sm_90"):
        api.train(spec(tmp_path), out=tmp_path / "run", target="cuda:sm_80")
    with pytest.raises(RuntimeFault, match=r"R0107[\s\S]*--target cuda"):
        api.train(spec(tmp_path), out=tmp_path / "run", target="aarch64")
