"""`dlc eval`: measure a compiled model's error on the test part of a data set."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import DATA, JSON, THREADS, ImageSize, emit_json


@click.command(name="eval")
@click.argument("artifact", type=click.Path(path_type=Path))
@DATA
@click.option("--source", help="The data source, e.g. mnist; default: the one the model was trained on.")
@click.option("--batch", type=click.IntRange(min=1), default=256, show_default=True, help="Number of samples per call.")
@click.option("--dense", type=ImageSize(), help="The network at every place of whole images of this size.")
@click.option("--flip", is_flag=True, help="With --dense: mirror images too.")
@THREADS
@JSON
def command(
    artifact: Path,
    data: Path | None,
    source: str | None,
    batch: int,
    dense: tuple[int, int] | None,
    flip: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure a compiled model's error on the test part of a data set."""
    from dlc import measuring

    if flip and dense is None:
        raise click.UsageError("--flip goes with --dense")
    result = measuring.evaluate(
        artifact, data=data, source=source, batch=batch, threads=threads, dense=dense, flip=flip
    )
    click.echo(
        f"test error  {result.test_error:.2%}  ({result.images} images of {result.source}, {result.seconds:.2f} s)"
    )
    if as_json:
        emit_json(
            {
                "test_error": result.test_error,
                "images": result.images,
                "source": result.source,
                "seconds": result.seconds,
            }
        )
