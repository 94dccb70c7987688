"""Experiments: all recipes of a spec, one after another, and a page that lays them over each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc.api import Settings, check
from dlc.reporting import write_comparison, write_report
from dlc.runtime.errors import RuntimeFault

if TYPE_CHECKING:
    from dlc.training import TrainingReport

COMPARISON = "compare.html"
DIVERGED = ("R0421", "R0422")


@dataclass(frozen=True)
class Trial:
    """One recipe of an experiment: what came of it, or why it ended before its time."""

    recipe: str
    out: Path
    report: TrainingReport | None
    fault: RuntimeFault | None


def train_all(
    spec: str | Path,
    *,
    out: str | Path | None = None,
    settings: Settings = (),
    begins: Callable[[str], None] = lambda recipe: None,
    **options: Any,
) -> tuple[list[Trial], Path | None]:
    """Trains by every recipe of a spec, in the file's order, each into its own directory of `out` (default: runs/FILE).

    A recipe that diverges is a result like others; any other fault ends the experiment. `begins` is told each recipe's
    name, `options` are those of `dlc.train`. Returns the trials and the page that compares them (None: there is but one
    recipe). Raises DlcError and RuntimeFault for the user's mistakes.
    """
    from dlc.training import train

    recipes = list(check(spec, settings=settings).recipes)
    if not recipes:
        raise RuntimeFault("R0429", f"{spec} has no train section", help="`dlc train` needs a recipe to train by")
    folder = Path(out) if out is not None else Path("runs", Path(spec).stem)
    trials = []
    for name in recipes:
        begins(name)
        report: TrainingReport | None = None
        fault: RuntimeFault | None = None
        try:
            report = train(spec, recipe=name, out=folder / name, settings=settings, **options)
        except RuntimeFault as error:
            if error.code not in DIVERGED:
                raise
            fault = error
            write_report(folder / name)
        trials.append(Trial(name, folder / name, report, fault))
    page = write_comparison([trial.out for trial in trials], folder / COMPARISON) if len(trials) > 1 else None
    return trials, page
