"""`dlc data`: look at a recipe's data, also as augmentation changes it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import rich_click as click

from dlc.commands.options import DATA, JSON, SETTINGS, SPEC, emit_json


@click.command(name="data")
@SPEC
@click.option("--recipe", help="A train section of the file; default: the first.")
@click.option(
    "--samples",
    metavar="FILE.png",
    type=click.Path(path_type=Path),
    help="Write a sheet of samples: the first row as they are, below it as training's first epochs see them.",
)
@DATA
@SETTINGS
@JSON
def command(
    spec: Path, recipe: str | None, samples: Path | None, data: Path | None, settings: tuple[str, ...], as_json: bool
) -> None:
    """Look at the data of a recipe: counts, classes, normalisation, and with --samples pictures."""
    from dlc.samples import look

    found = look(spec, recipe=recipe, data=data, settings=settings, picture=samples)
    click.echo(f"source      {found.source}")
    for part in found.parts:
        each = f"{part.fewest:,}" if part.fewest == part.most else f"{part.fewest:,} to {part.most:,}"
        click.echo(f"{part.name:<11} {part.samples:,} samples, {each} of a class")
    names = ", ".join(found.classes[:10]) + (", …" if len(found.classes) > 10 else "")
    click.echo(f"classes     {len(found.classes)}: {names}")
    click.echo(f"images      {'x'.join(map(str, found.shape))}, channels x height x width")
    if len(found.mean) == found.shape[0]:
        click.echo(f"mean        {' '.join(f'{m:.4f}' for m in found.mean)}")
        click.echo(f"deviation   {' '.join(f'{s:.4f}' for s in found.std)}")
    else:
        click.echo("mean        one for each pixel")
    for note in found.notes:
        click.echo(f"note        {note}")
    if found.picture is not None:
        click.echo(f"samples     {found.picture}")
    if as_json:
        facts = asdict(found)
        emit_json({**facts, "picture": str(found.picture) if found.picture is not None else None})
