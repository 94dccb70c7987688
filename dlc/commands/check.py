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
@click.option("--strict", is_flag=True, help="Take warnings for mistakes: exit with 1.")
@JSON
def command(specs: tuple[Path, ...], settings: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Check every name, shape and expectation of spec files; report all mistakes."""
    from dlc import api

    found: list[Diagnostic] = []
    for spec in specs:
        try:
            diagnostics = api.check(spec, settings=settings).warnings
        except dlc.DlcError as error:
            diagnostics = error.diagnostics
        found.extend(diagnostics)
        if diagnostics:
            click.echo("\n\n".join(d.render() for d in diagnostics) + "\n", err=True)
    mistakes = [d for d in found if strict or d.severity == "error"]
    if as_json:
        from dlc import report

        emit_json({"diagnostics": [report.diagnostic(d) for d in found]})
    elif not mistakes:
        click.echo(f"{', '.join(map(str, specs))}: no mistakes")
    if mistakes:
        sys.exit(1)
