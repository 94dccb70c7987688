"""`dlc show`: show each layer's output shape, parameters, multiply-adds and activation memory."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import JSON, MODEL, SETTINGS, SPEC, TARGET, emit_json


@click.command(name="show")
@SPEC
@MODEL
@click.option(
    "--after",
    metavar="STAGE",
    help="Print the network as it is after a stage: parse, check, build, fold, pack, fuse, lower.",
)
@TARGET
@SETTINGS
@JSON
def command(
    spec: Path, model: str | None, after: str | None, target: str, settings: tuple[str, ...], as_json: bool
) -> None:
    """Show each layer's output shape, parameters, multiply-adds and activation memory."""
    from dlc import api, report

    if after is not None:
        click.echo(api.show_after(spec, after, model=model, target=target, settings=settings))
        return
    networks = api.networks(spec, model=model, settings=settings)
    for network in networks:
        report.print_network(network)
    if as_json:
        emit_json({"models": [report.network(n) for n in networks]})
