"""A memory budget is kept, planned and measured, and changes no weight."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dlc.api import recipe_of
from dlc.cli import main
from dlc.compiler.codegen.cache import BuildOptions, user_cache
from dlc.compiler.errors import DlcError
from dlc.compiler.recipe import Recipe
from dlc.runtime.memory import plan_memory
from dlc.training import TrainingSession, train

SPEC = """
block Layer(channels) = conv(channels, 3, pad=1) -> batch_norm -> relu
model Deep {{
    input image: [3, {size}, {size}]
    image -> conv(16, 3, pad=1)
          -> repeat(6, residual(Layer(16) -> Layer(16)) -> dropout(0.1))
          -> global_avg_pool -> linear(10) -> output logits
}}
data pictures {{
    source npz
}}
train T {{
    model     Deep
    data      pictures
    loss      cross_entropy
    optimizer adam(lr=0.01)
    batch     {batch}
    epochs    1
    {more}
}}
"""

MEASURE = """
import json, sys
from pathlib import Path
import numpy as np
import dlc.compiler.pipeline, dlc.fitting
from dlc.api import recipe_of
from dlc.compiler.codegen.cache import BuildOptions, user_cache
from dlc.runtime.library import load_runtime
from dlc.training import TrainingSession

def kilobytes(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))

load_runtime()
recipe = recipe_of(sys.argv[1], settings=tuple(sys.argv[2:]))
before = kilobytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
session = TrainingSession(recipe, options=BuildOptions(user_cache()))
feeds = {s.name: np.ones(s.shape, s.dtype) for s in session.step.program.inputs}
for _ in range(2):
    session.step.run(feeds)
print(json.dumps({"peak": (kilobytes("VmHWM") - before) * 1024, "planned": session.need.total}))
"""

OVERHEAD = 40 * 2**20
"""What the compiler's own data and the programs' code take beside what is planned, at most."""


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Path]:
    def write(more: str = "", batch: int = 12, size: int = 16) -> Path:
        path = tmp_path / "deep.dlspec"
        path.write_text(SPEC.format(more=more, batch=batch, size=size))
        return path

    return write


def session_of(recipe: Recipe) -> TrainingSession:
    return TrainingSession(recipe, options=BuildOptions(user_cache()))


def steps(recipe: Recipe, count: int = 3) -> tuple[TrainingSession, list[float]]:
    """A session after some steps, and their losses."""
    session = session_of(recipe)
    losses = []
    for number in range(count):
        generator = np.random.default_rng(number)
        feeds = {
            "image": generator.standard_normal((recipe.batch, *recipe.network.inputs[0].shape)).astype(np.float32),
            "train.labels": generator.integers(0, 10, recipe.batch).astype(np.int32),
            "train.step": np.uint32(number),
            "train.seed": np.uint32(5),
            "train.rate.0": np.float32(0.01),
        }
        losses.append(float(session.step.run(feeds)["train.loss"]))
    return session, losses


def budget(session: TrainingSession, part: float) -> int:
    """Kilobytes that leave this part of a step's arena."""
    arena = plan_memory(session.step.program, 1).peak  # the program's batch is fixed
    return int((session.need.weights + session.need.samples + arena * part) / 1024)


@pytest.mark.filterwarnings("ignore::dlc.compiler.errors.SpecWarning")  # batch norm over the parts of a batch
@pytest.mark.parametrize("accumulate", [1, 3])
def test_weights_under_a_budget_are_those_without_one(spec: Callable[..., Path], accumulate: int) -> None:
    parts = f"accumulate {accumulate}"
    free, losses = steps(recipe_of(spec(parts)))

    for part in (0.8, 0.6):
        allowed = budget(free, part)
        kept, again = steps(recipe_of(spec(f"{parts}\n    memory {allowed}KB")))

        assert kept.need.total <= allowed * 1024
        assert len(kept.step.program.steps) > len(free.step.program.steps)
        assert kept.need.weights == free.need.weights
        assert losses == again
        assert all(np.array_equal(array, kept.arrays[name]) for name, array in free.arrays.items())


def test_what_is_planned_is_what_the_programs_take(spec: Callable[..., Path]) -> None:
    session, _ = steps(recipe_of(spec("memory 3500KB")), 1)

    arena = plan_memory(session.step.program, session.step.program.batch).peak
    held = sum(array.nbytes for array in session.arrays.values())

    assert session.need.total <= 3500 * 1024
    assert arena <= session.need.arena
    assert held <= session.need.weights


def test_a_budget_that_no_repetition_reaches_is_an_error_that_says_what_it_takes(spec: Callable[..., Path]) -> None:
    path = spec("memory 700KB")

    with pytest.raises(DlcError, match=r"`memory` allows 700 KB, but training needs at least [\d.]+ MB") as caught:
        session_of(recipe_of(path))

    (found,) = caught.value.diagnostics
    assert found.code == "E0818"
    assert found.span is not None and found.span.text == "T"
    assert "accumulate" in found.help


def test_evaluation_keeps_the_budget_too(spec: Callable[..., Path]) -> None:
    free = session_of(recipe_of(spec(batch=2)))
    tight = session_of(recipe_of(spec("memory 3900KB", batch=2)))
    images = np.random.default_rng(0).standard_normal((250, 3, 16, 16)).astype(np.float32)

    assert tight.need.total <= 3900 * 1024 < free.need.total
    np.testing.assert_allclose(tight.scores(images), free.scores(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("value", "message"), [("2", "takes a size"), ("0MB", "above 0"), ("2 epochs", "takes a size")]
)
def test_a_budget_is_a_size(spec: Callable[..., Path], value: str, message: str) -> None:
    with pytest.raises(DlcError, match=f"`memory` .*{message}"):
        recipe_of(spec(f"memory {value}"))


def test_memory_is_measured_within_the_budget(spec: Callable[..., Path]) -> None:
    path = str(spec(batch=160, size=32))

    def measured(*settings: str) -> dict[str, int]:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, path, *settings], stdout=subprocess.PIPE, text=True, check=True
        )
        found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        return found

    measured()  # fills the cache: compiling takes memory of its own
    free = measured()
    budget = int(free["planned"] * 0.6) // 2**20
    kept = measured(f"train.memory={budget}MB")

    assert free["planned"] > budget * 2**20 + 2 * OVERHEAD
    assert kept["planned"] <= budget * 2**20
    assert kept["peak"] <= budget * 2**20 + OVERHEAD
    assert free["peak"] > kept["peak"] + OVERHEAD


def test_a_run_goes_on_under_another_budget(spec: Callable[..., Path], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 3, 16, 16)).astype(np.uint8)
    labels = np.arange(60) % 10
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    path = spec().rename(tmp_path / "other.dlspec")

    first = train(path, data=tmp_path / "data.npz", out=tmp_path / "run")
    again = train(
        path, data=tmp_path / "data.npz", out=tmp_path / "run", settings=("train.memory=3500KB",), resume=True
    )

    assert again.history == first.history


def test_the_command_line_sets_the_budget(
    spec: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["dlc", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    path = str(spec())

    assert call("bench", path, "--train", "--memory", "700KB")[0] == 1
    status, text = call("bench", path, "--memory", "2GB")
    assert status == 2
    assert "--memory is about --train" in text
    status, text = call("bench", path, "--train", "--memory", "2 epochs")
    assert status == 1
    assert "`memory` takes a size" in text
