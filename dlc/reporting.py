"""The pages of runs as files: `report.html` beside what training leaves, and comparisons of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dlc.pages.run import EVALUATION, read_run
from dlc.runtime.atomic import replace_file
from dlc.runtime.errors import RuntimeFault

if TYPE_CHECKING:
    from dlc.rate_search import RateSearch
    from dlc.runtime.data.prepare import Prepared
    from dlc.runtime.training.options import TrainingResult
    from dlc.training import TrainingSession

REPORT = "report.html"


def write_report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Writes the page about the run in a directory, by default as report.html there. Returns where.

    Raises RuntimeFault (R0601, R0602) where the directory holds no run, or damaged files.
    """
    from dlc.pages.report import report_page

    folder = Path(folder)
    target = Path(output) if output is not None else folder / REPORT
    page = report_page(read_run(folder))
    with replace_file(target) as file:
        file.write(page.encode())
    return target


def write_comparison(folders: Sequence[str | Path], output: str | Path) -> Path:
    """Writes the page that lays two or more runs over each other.

    Raises RuntimeFault (R0601, R0602, R0603) where a directory holds no run, or damaged files, or where there is only one.
    """
    from dlc.pages.compare import compare_page

    if len(folders) < 2:
        raise RuntimeFault("R0603", "a comparison needs two runs", help="for the page about one: dlc report RUN")
    page = compare_page([read_run(Path(folder)) for folder in folders])
    with replace_file(Path(output)) as file:
        file.write(page.encode())
    return Path(output)


def write_rates(test: RateSearch) -> Path:
    """Writes the page about a range test, beside its file. Returns where."""
    from dlc.pages.rates import rate_page

    points = [(point.rate, point.loss, point.smooth) for point in test.points]
    page = rate_page(test.file.parent.name, points, test.suggestion.steepest, test.suggestion.careful)
    target = test.file.with_suffix(".html")
    with replace_file(target) as file:
        file.write(page.encode())
    return target


def write_evaluation(session: TrainingSession, data: Prepared, result: TrainingResult, folder: Path) -> None:
    """Writes evaluation.json: what the report says of the best weights, which the session holds, and of the step's time.

    The step is run on random images for its times, which spoils the session's weights.
    """
    from dlc.pages.evaluation import evaluate_run
    from dlc.runtime.training.checkpoint import BEST
    from dlc.runtime.weights import load_weights

    evaluation = evaluate_run(
        session.scores,
        data,
        load_weights(folder / BEST),
        session.profile,
        batch=session.recipe.batch // session.recipe.accumulate,
        test=result.test,
        best_epoch=result.best_epoch,
    )
    with replace_file(folder / EVALUATION) as file:
        file.write(msgspec.json.encode(evaluation) + b"\n")
