"""`dlc tune`: measure what the cost models only estimate, and keep what makes a network faster on this machine."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import JSON, MODEL, SPEC, TARGET, emit_json


@click.command(name="tune")
@SPEC
@MODEL
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True, help="How long to search."
)
@click.option("--batch", type=click.IntRange(min=1), help="Samples per call; default: one, and any number.")
@click.option("--train", is_flag=True, help="Tune a training step of a recipe of the spec.")
@click.option("--recipe", help="With --train: a train section of the file; default: the first.")
@TARGET
@click.option("--database", type=click.Path(path_type=Path), help="Where to keep it; default: the user's cache folder.")
@JSON
def command(
    spec: Path,
    model: str | None,
    minutes: float,
    batch: int | None,
    train: bool,
    recipe: str | None,
    target: str,
    database: Path | None,
    as_json: bool,
) -> None:
    """Measure the choices that cost models make for a network's kernels; `dlc compile` takes what is faster."""
    if recipe is not None and not train:
        raise click.UsageError("--recipe is about --train, which is not given")
    if train and (model is not None or batch is not None):
        raise click.UsageError("--train tunes a recipe, which has its own model and batch: leave --model and --batch")
    if train and target != "cpu":
        raise click.UsageError("training runs on this machine: leave --target")
    from dlc import report
    from dlc.progress import TuningBar
    from dlc.tuning.tune import tune

    with TuningBar() as bar:
        result = tune(
            spec,
            model=model,
            minutes=minutes,
            batch=batch,
            train=train,
            recipe=recipe,
            target=target,
            database=database,
            report=bar,
        )
    if result.damaged:
        click.echo(f"note: {result.damaged} lines of {result.database} are damaged and were left out", err=True)
    if result.gains:
        report.print_gains(result)
    for whole in result.whole:
        click.echo(
            f"{result.name}, batch {whole.samples}: {whole.before_ms:.3f} ms before, "
            f"{whole.before_ms * whole.ratio:.3f} ms with what was found"
        )
    click.echo(
        f"{result.tried} tries in {result.seconds:.0f} s"
        + (", stopped early" if result.stopped else "")
        + (f", {result.refused} left out because their results were wrong" if result.refused else "")
    )
    if result.kept:
        taker = "`dlc train --tuned` takes" if train else "`dlc compile` takes"
        click.echo(f"kept in {result.database}: {taker} it from there")
    elif result.gains:
        click.echo("not kept: the whole network is not faster with it")
    else:
        click.echo("nothing faster than the cost models' choices was found")
    if as_json:
        emit_json(report.tuning(result))
