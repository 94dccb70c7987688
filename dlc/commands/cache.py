"""`dlc cache`: what is kept of compiled kernels and of measurements, and where."""

from __future__ import annotations

import rich_click as click

from dlc.commands.options import JSON, emit_json


@click.command(name="cache")
@click.option("--clear", is_flag=True, help="Remove everything.")
@JSON
def command(clear: bool, as_json: bool) -> None:
    """Show what is kept of compiled kernels and of what `dlc tune` measured, and where; or remove it."""
    from dlc.compiler.codegen.cache import cache_folder, user_cache
    from dlc.compiler.codegen.tuning import user_database

    found, folder, database = user_cache(), cache_folder(), user_database()
    if found is None:
        click.echo(f"{folder or 'the cache folder'} cannot be used: nothing is kept")
    else:
        before = found.clear() if clear else found.usage()
        what = f"{before.entries} entries, {before.size / 1e6:.1f} MB"
        click.echo(f"{folder}: {what} removed" if clear else f"{folder}: {what} of at most {found.limit / 1e6:.0f} MB")
    choices = 0
    if database is not None:
        choices = database.count()
        if clear:
            database.clear()
        click.echo(f"{database.path}: {choices} measured choices{' removed' if clear else ''}")
    if as_json:
        usage = found.usage() if found is not None else None
        entries, size = usage if usage is not None else (0, 0)
        facts = {"folder": str(folder) if folder else None, "entries": entries, "bytes": size}
        tuning = str(database.path) if database is not None else None
        emit_json({**facts, "database": tuning, "choices": 0 if clear else choices})
