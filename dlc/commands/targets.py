"""`dlc targets`: list what this machine can run and what it can compile for, and why not."""

from __future__ import annotations

import rich_click as click

from dlc.commands.options import JSON, emit_json


@click.command(name="targets")
@JSON
def command(as_json: bool) -> None:
    """List what this machine can run and what it can compile for, and why not."""
    from dlc import measuring

    found = measuring.targets()
    for entry in found:
        runs = "runs" if entry["runs"] else "does not run"
        compiles = "compiles" if entry["compiles"] else "does not compile"
        reason = f"  ({entry['reason']})" if entry["reason"] else ""
        click.echo(f"{entry['name']:<12} {compiles}, {runs} here{reason}")
    if as_json:
        emit_json({"targets": found})
