"""`dlc compile`: compile a model of the file into an artifact."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import (
    BATCH,
    JSON,
    MODEL,
    NO_CACHE,
    NO_TUNING,
    PRECISION,
    SETTINGS,
    SPEC,
    TARGET,
    WEIGHTS,
    ImageSize,
    emit_json,
)


@click.command(name="compile")
@SPEC
@MODEL
@TARGET
@WEIGHTS
@click.option(
    "--partial", is_flag=True, help="Take those of the --weights whose name and shape fit; say what does not."
)
@BATCH
@PRECISION
@click.option(
    "--size",
    "sizes",
    multiple=True,
    type=ImageSize(),
    help="Size of the images; default: the spec's. Given several times, the artifact has a program for each.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The artifact; default: MODEL.dlc.")
@SETTINGS
@NO_CACHE
@NO_TUNING
@click.option(
    "--database", type=click.Path(path_type=Path), help="What `dlc tune` measured; default: in the user's cache folder."
)
@JSON
def command(
    spec: Path,
    model: str | None,
    target: str,
    weights: Path | None,
    partial: bool,
    batch: int | None,
    precision: str,
    sizes: tuple[tuple[int, int], ...],
    output: Path | None,
    settings: tuple[str, ...],
    no_cache: bool,
    no_tuning: bool,
    database: Path | None,
    as_json: bool,
) -> None:
    """Compile a model of the file into an artifact."""
    from dlc import api
    from dlc.progress import CompilingBar

    if partial and weights is None:
        raise click.UsageError("--partial is about --weights, which is not given")
    if no_tuning and database is not None:
        raise click.UsageError("--no-tuning leaves what was measured, --database names it")
    with CompilingBar() as progress:
        result = api.compile_to_file(
            spec,
            output,
            model=model,
            target=target,
            weights=weights,
            batch=batch,
            settings=settings,
            partial=partial,
            sizes=sizes,
            precision=precision,
            cache=not no_cache,
            progress=progress,
            tuning=database if database is not None else not no_tuning,
        )
    for line in result.differences:
        click.echo(line, err=True)
    if result.damaged:
        click.echo(f"note: {result.damaged} lines of the tuning database are damaged and were left out", err=True)
    if result.tuned:
        click.echo(f"{result.tuned} choices as measured on this machine (--no-tuning leaves them)", err=True)
    if weights is None:
        click.echo("no --weights given: the artifact holds freshly initialised weights", err=True)
    click.echo(f"{result.artifact}  {result.size / 1e6:.2f} MB  {result.target}  compiled in {result.seconds:.1f} s")
    if as_json:
        emit_json(
            {
                "artifact": str(result.artifact),
                "bytes": result.size,
                "differences": result.differences,
                "model": result.model,
                "seconds": result.seconds,
                "target": result.target,
                "tuned": result.tuned,
            }
        )
