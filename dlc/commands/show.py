"""`dlc show`: a network's table or its picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from dlc.commands.options import JSON, MODEL, PRECISION, SETTINGS, SPEC, TARGET, emit_json


@click.command(name="show")
@SPEC
@MODEL
@click.option("--layers", is_flag=True, help="Every layer call with its output, parameters, multiply-adds and memory.")
@click.option(
    "--graph",
    metavar="FILE.svg",
    type=click.Path(path_type=Path),
    help="Write a picture of the model instead of printing its table.",
)
@click.option(
    "--depth", type=click.IntRange(min=0), help="Levels of blocks that the picture opens; default: what stays readable."
)
@click.option("--block", metavar="NAME", help="Draw the inside of a block, or of one call of it: Inception, layer2.0.")
@click.option(
    "--after",
    metavar="STAGE",
    help="Print the network as it is after a stage: parse, check, build, fold, pack, fuse, lower.",
)
@TARGET
@PRECISION
@SETTINGS
@JSON
def command(
    spec: Path,
    model: str | None,
    layers: bool,
    graph: Path | None,
    depth: int | None,
    block: str | None,
    after: str | None,
    target: str,
    precision: str,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show a network as papers do: the table of its stages, or with --graph its picture."""
    from dlc import api, report

    if graph is None and (depth is not None or block is not None):
        raise click.UsageError("--depth and --block are about --graph, which is not given")
    if graph is not None and (after is not None or layers):
        raise click.UsageError("--graph writes a picture; --layers and --after print text")
    if after is not None:
        shown = api.show_after(spec, after, model=model, target=target, precision=precision, settings=settings)
        click.echo(shown)
        return
    result: dict[str, Any] = {}
    if graph is not None:
        from dlc.figures.graph import write_graph

        if graph.suffix.lower() != ".svg":
            raise click.UsageError(f"pictures are written as SVG: --graph {graph.with_suffix('.svg')}")
        networks = [api.one_network(spec, model=model, settings=settings)]
        write_graph(graph, networks[0], depth=depth, block=block)
        click.echo(f"{graph}  {networks[0].name}{f', {block}' if block else ''}")
        result["graph"] = str(graph)
    else:
        networks = api.networks(spec, model=model, settings=settings)
        if layers:
            for network in networks:
                report.print_layers(network)
        else:
            report.print_networks(networks)
    if as_json:
        emit_json({"models": [report.network(n) for n in networks], **result})
