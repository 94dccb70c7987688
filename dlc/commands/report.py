"""`dlc report`: write the page about a training run."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import JSON, emit_json


@click.command(name="report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The page; default: report.html in the run.")
@JSON
def command(run: Path, output: Path | None, as_json: bool) -> None:
    """Write the page about a training run; `dlc train` does so at its end."""
    from dlc import reporting

    path = reporting.write_report(run, output)
    click.echo(str(path))
    if as_json:
        emit_json({"path": str(path)})
