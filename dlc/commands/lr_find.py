"""`dlc lr-find`: the learning-rate range test of a recipe."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import DATA, JSON, SETTINGS, SPEC, THREADS, emit_json


@click.command(name="lr-find")
@SPEC
@click.option("--recipe", help="A train section of the file; default: the first.")
@click.option(
    "--from", "low", type=click.FloatRange(0, min_open=True), default=1e-6, show_default=True, help="First rate."
)
@click.option(
    "--to", "high", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="Last rate."
)
@click.option("--steps", type=click.IntRange(min=10), default=100, show_default=True, help="Number of rates.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory for lr_find.jsonl; default: runs/RECIPE.")
@DATA
@SETTINGS
@THREADS
@JSON
def command(
    spec: Path,
    recipe: str | None,
    low: float,
    high: float,
    steps: int,
    out: Path | None,
    data: Path | None,
    settings: tuple[str, ...],
    threads: int | None,
    as_json: bool,
) -> None:
    """Find a learning rate: train from fresh weights with rates that grow from step to step (Smith, 2017)."""
    if low >= high:
        raise click.UsageError(f"--from {low:g} is not below --to {high:g}")
    from dlc.rate_search import find_rate
    from dlc.reporting import write_rates

    found = find_rate(
        spec, recipe=recipe, low=low, high=high, steps=steps, out=out, data=data, settings=settings, threads=threads
    )
    for point in found.points[:: max(len(found.points) // 20, 1)]:
        click.echo(f"rate {point.rate:9.3g}  loss {point.smooth:.4f}")
    if found.suggestion.steepest is None or found.suggestion.careful is None:
        click.echo("the loss never fell: try rates below or above these")
    else:
        click.echo(f"the loss falls fastest at a rate of {found.suggestion.steepest:.2g}")
        click.echo(f"a tenth of the rate with the least loss is {found.suggestion.careful:.2g}")
    page = write_rates(found)
    click.echo(f"all steps: {found.file}")
    click.echo(f"page:      {page}")
    if as_json:
        emit_json(
            {
                "steepest": found.suggestion.steepest,
                "careful": found.suggestion.careful,
                "steps": len(found.points),
                "file": str(found.file),
                "page": str(page),
            }
        )
