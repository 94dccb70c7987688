"""`dlc run`: classify an image file, or the arrays of an .npy or .npz file."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import JSON, THREADS, ImageSize, emit_json


@click.command(name="run")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes to show.")
@click.option("--size", type=ImageSize(), help="Resize images to this size; default: the one the model was trained on.")
@THREADS
@JSON
def command(
    artifact: Path, file: Path, top: int, size: tuple[int, int] | None, threads: int | None, as_json: bool
) -> None:
    """Classify an image file, or the arrays of an .npy or .npz file."""
    from dlc import measuring

    results = measuring.run(artifact, file, top=top, size=size, threads=threads)
    for index, classes in enumerate(results):
        if len(results) > 1:
            click.echo(f"sample {index}")
        for entry in classes:
            click.echo(f"{entry['probability']:8.2%}  {entry['name']}")
    if as_json:
        emit_json({"samples": results})
