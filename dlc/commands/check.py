"""`dlc check`: check every name, shape and expectation of spec files; report all mistakes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

import dlc
from dlc.commands.options import JSON, SETTINGS, emit_json

if TYPE_CHECKING:
    from dlc.compiler.errors import Diagnostic


@click.command(name="check")
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
@SETTINGS
@JSON
def command(specs: tuple[Path, ...], settings: tuple[str, ...], as_json: bool) -> None:
    """Check every name, shape and expectation of spec files; report all mistakes."""
    from dlc import api

    found: list[Diagnostic] = []
    for spec in specs:
        try:
            api.check(spec, settings=settings)
        except dlc.DlcError as error:
            found.extend(error.diagnostics)
            click.echo("\n\n".join(d.render() for d in error.diagnostics) + "\n", err=True)
    if as_json:
        from dlc import report

        emit_json({"diagnostics": [report.diagnostic(d) for d in found]})
    elif not found:
        click.echo(f"{', '.join(map(str, specs))}: no mistakes")
    if found:
        sys.exit(1)
