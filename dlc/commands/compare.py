"""`dlc compare`: lay training runs over each other in one page."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import JSON, emit_json


@click.command(name="compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("compare.html"), show_default=True, help="The page."
)
@JSON
def command(runs: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Lay training runs over each other in one page: curves, results, what differs in the recipes."""
    from dlc import reporting

    path = reporting.write_comparison(runs, output)
    click.echo(str(path))
    if as_json:
        emit_json({"path": str(path)})
