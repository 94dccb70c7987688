"""`dlc cache`: what is kept of compiled kernels, and where."""

from __future__ import annotations

import rich_click as click

from dlc.commands.options import JSON, emit_json


@click.command(name="cache")
@click.option("--clear", is_flag=True, help="Remove everything.")
@JSON
def command(clear: bool, as_json: bool) -> None:
    """Show what is kept of compiled kernels, and where; or remove it."""
    from dlc.compiler.codegen.cache import cache_folder, user_cache

    found, folder = user_cache(), cache_folder()
    if found is None:
        click.echo(f"{folder or 'the cache folder'} cannot be used: nothing is kept")
    else:
        before = found.clear() if clear else found.usage()
        what = f"{before.entries} entries, {before.size / 1e6:.1f} MB"
        click.echo(f"{folder}: {what} removed" if clear else f"{folder}: {what} of at most {found.limit / 1e6:.0f} MB")
    if as_json:
        usage = found.usage() if found is not None else None
        entries, size = usage if usage is not None else (0, 0)
        emit_json({"folder": str(folder) if folder else None, "entries": entries, "bytes": size})
