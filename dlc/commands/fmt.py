"""`dlc fmt`: format spec files in place."""

from __future__ import annotations

import sys
from pathlib import Path

import rich_click as click

import dlc


@click.command(name="fmt")
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit 1 if a file would change.")
def command(specs: tuple[Path, ...], only_check: bool) -> None:
    """Format spec files in place."""
    from dlc import api

    status = 0
    for spec in specs:
        try:
            if api.format_file(spec, write=not only_check):
                click.echo(f"{'would format' if only_check else 'formatted'} {spec}")
                status = max(status, int(only_check))
        except (dlc.DlcError, dlc.RuntimeFault) as error:
            click.echo(f"{error}\n", err=True)
            status = 1
    sys.exit(status)
