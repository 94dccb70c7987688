"""`dlc lr-find`: the learning-rate range test of a recipe, written down beside its runs."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from dlc.api import Settings, recipe_of
from dlc.data import compiled_warps, load_data
from dlc.runtime.atomic import replace_file, write_fault
from dlc.runtime.data.loader import Loader
from dlc.runtime.training.feed import Feed
from dlc.runtime.training.range_test import Point, Suggestion, range_test, rates, suggest_rate
from dlc.runtime.weights import load_weights
from dlc.training import TrainingSession, with_whole_batch

FILE = "lr_find.jsonl"


@dataclass(frozen=True)
class RateSearch:
    """What a range test gave: its points, what they speak for, and the file that holds them, a line each."""

    points: tuple[Point, ...]
    suggestion: Suggestion
    file: Path


def find_rate(
    spec: str | Path,
    *,
    recipe: str | None = None,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    out: str | Path | None = None,
    data: str | Path | None = None,
    settings: Settings = (),
    threads: int | None = None,
) -> RateSearch:
    """Tests `steps` rates between `low` and `high` on a recipe, from its initial weights; schedule and length play no part.

    Leaves lr_find.jsonl in `out` (default: runs/RECIPE), a line for each step: step, rate, loss, smooth. Nothing else there
    is touched. Raises DlcError and RuntimeFault for the user's mistakes.
    """
    plan = recipe_of(spec, recipe, settings)
    folder = Path(out) if out is not None else Path("runs", plan.name)
    prepared = load_data(plan, Path(data) if data is not None else None)
    plan = with_whole_batch(plan, prepared)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_fault(folder, error) from error
    session = TrainingSession(plan, threads=threads)
    if plan.init_from is not None:
        session.start_from(load_weights(plan.init_from))
    loader = Loader(
        prepared.train,
        prepared.preprocessing,
        batch=plan.batch,
        augment=plan.data.augment,
        seed=plan.seed,
        make_warp=compiled_warps(threads),
    )
    bases = [group.optimizer.lr for group in plan.optimizers]
    with closing(loader.batches(0, steps)) as batches:
        points = range_test(
            session.step, Feed(session.step.program, plan.seed), batches, rates(low, high, steps), bases
        )
    file = folder / FILE
    with replace_file(file) as target:
        target.write(b"".join(msgspec.json.encode(asdict(point)) + b"\n" for point in points))
    return RateSearch(tuple(points), suggest_rate(points), file)
