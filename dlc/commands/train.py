"""`dlc train`: train a model by a recipe of the file and compile the best weights."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import DATA, JSON, NO_CACHE, SETTINGS, SPEC, THREADS, emit_json


@click.command(name="train")
@SPEC
@click.option("--recipe", help="A train section of the file; default: the first.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory for the results; default: runs/RECIPE.")
@DATA
@SETTINGS
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in the directory, bit for bit.")
@THREADS
@NO_CACHE
@JSON
def command(
    spec: Path,
    recipe: str | None,
    out: Path | None,
    data: Path | None,
    settings: tuple[str, ...],
    resume: bool,
    threads: int | None,
    no_cache: bool,
    as_json: bool,
) -> None:
    """Train a model by a recipe of the file and compile the best weights."""
    from dlc import api

    result = api.train(
        spec,
        recipe=recipe,
        out=out,
        data=data,
        settings=settings,
        resume=resume,
        threads=threads,
        progress=True,
        cache=not no_cache,
    )
    click.echo(f"test error  {result.test_error:.2%}")
    click.echo(f"epochs      {result.epochs}")
    click.echo(f"time        {result.seconds:.1f} s")
    click.echo(f"artifact    {result.artifact}")
    if as_json:
        emit_json(
            {
                "test_error": result.test_error,
                "epochs": result.epochs,
                "seconds": result.seconds,
                "artifact": str(result.artifact),
                "out": str(result.out),
            }
        )
