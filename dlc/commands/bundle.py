"""`dlc bundle`: put artifacts and all that runs them into a folder, for machines without dlc."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import JSON, emit_json


@click.command(name="bundle")
@click.argument("artifacts", metavar="ARTIFACT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder; it must be new.")
@click.option("--python", metavar="3.NN", help="The version of Python that it is for; default: this one's.")
@JSON
def command(artifacts: tuple[Path, ...], output: Path, python: str | None, as_json: bool) -> None:
    """Put artifacts and all that runs them into a folder, for machines without dlc."""
    from dlc.bundling import bundle

    made = bundle(artifacts, output, python=python)
    click.echo(
        f"{made.folder}  {made.size / 1e6:.1f} MB: artifacts {made.artifacts / 1e6:.1f}, libraries "
        f"{made.libraries / 1e6:.1f}, Python packages {made.packages / 1e6:.1f}"
    )
    click.echo(f"run it where Python and numpy are: python {made.folder}/run.py INPUT.npy")
    if as_json:
        emit_json(
            {
                "folder": str(made.folder),
                "bytes": made.size,
                "artifacts": made.artifacts,
                "libraries": made.libraries,
                "packages": made.packages,
            }
        )
