"""`dlc train`: train a model by a recipe of the file and compile the best weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from dlc.commands.options import (
    DATA,
    JSON,
    MEMORY,
    NO_CACHE,
    SETTINGS,
    SPEC,
    STEP_PRECISION,
    THREADS,
    emit_json,
    with_options,
)


@click.command(name="train")
@SPEC
@click.option("--recipe", help="A train section of the file; default: the first.")
@click.option(
    "--all", "every", is_flag=True, help="All train sections, one after another, and a page that compares them."
)
@click.option("--out", type=click.Path(path_type=Path), help="Directory for the results; default: runs/RECIPE.")
@DATA
@SETTINGS
@MEMORY
@STEP_PRECISION
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in the directory, bit for bit.")
@click.option(
    "--target", default="cpu", show_default=True, help="What trains: cpu, cuda or cuda:sm_90 (see dlc targets)."
)
@THREADS
@NO_CACHE
@click.option(
    "--tuned", is_flag=True, help="Take what `dlc tune` measured; a resumed run is then the same but for rounding."
)
@JSON
def command(
    spec: Path,
    recipe: str | None,
    every: bool,
    out: Path | None,
    data: Path | None,
    settings: tuple[str, ...],
    memory: str | None,
    precision: str | None,
    resume: bool,
    target: str,
    threads: int | None,
    no_cache: bool,
    tuned: bool,
    as_json: bool,
) -> None:
    """Train a model by a recipe of the file and compile the best weights."""
    from dlc import api

    settings = with_options(settings, memory, precision)
    options: dict[str, Any] = {
        "data": data,
        "resume": resume,
        "threads": threads,
        "progress": True,
        "cache": not no_cache,
        "target": target,
        "tuned": tuned,
    }
    if every:
        if recipe is not None:
            raise click.UsageError("--all trains every recipe, --recipe names one")
        _train_all(spec, out, settings, options, as_json)
        return
    result = api.train(spec, recipe=recipe, out=out, settings=settings, **options)
    click.echo(f"test error  {result.test_error:.2%}")
    click.echo(f"epochs      {result.epochs}")
    click.echo(f"time        {result.seconds:.1f} s")
    click.echo(f"artifact    {result.artifact}")
    click.echo(f"report      {result.out / 'report.html'}")
    if as_json:
        emit_json(_facts(result))


def _train_all(spec: Path, out: Path | None, settings: tuple[str, ...], options: dict[str, Any], as_json: bool) -> None:
    from dlc import experiments

    def begins(recipe: str) -> None:
        click.echo(f"\n{recipe}", err=True)

    trials, page = experiments.train_all(spec, out=out, settings=settings, begins=begins, **options)
    click.echo()
    for trial in trials:
        found = f"test error {trial.report.test_error:7.2%}  {trial.report.seconds:6.1f} s" if trial.report else ""
        click.echo(f"{trial.recipe:<20} {found or trial.fault.message if trial.fault else found}")
    if page is not None:
        click.echo(f"comparison  {page}")
    if as_json:
        facts = [
            {
                "recipe": trial.recipe,
                **(_facts(trial.report) if trial.report else {"out": str(trial.out)}),
                **({"fault": trial.fault.code} if trial.fault else {}),
            }
            for trial in trials
        ]
        emit_json({"recipes": facts, "comparison": str(page) if page else None})


def _facts(result: Any) -> dict[str, Any]:
    return {
        "test_error": result.test_error,
        "epochs": result.epochs,
        "seconds": result.seconds,
        "artifact": str(result.artifact),
        "out": str(result.out),
    }
