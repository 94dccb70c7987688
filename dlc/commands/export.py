"""`dlc export`: write a model of the file as ONNX."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import JSON, MODEL, SETTINGS, WEIGHTS, emit_json


@click.command(name="export")
@click.argument("model_file", metavar="SPEC", type=click.Path(path_type=Path))
@MODEL
@WEIGHTS
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The ONNX file; default: MODEL.onnx.")
@SETTINGS
@JSON
def command(
    model_file: Path,
    model: str | None,
    weights: Path | None,
    output: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write a model of the file as ONNX."""
    from dlc import exporting

    result = exporting.export(model_file, output, model=model, weights=weights, settings=settings)
    if weights is None:
        click.echo("no --weights given: the file holds freshly initialised weights", err=True)
    click.echo(f"{result.path}  {result.size / 1e6:.2f} MB  {result.nodes} nodes")
    if as_json:
        emit_json({"path": str(result.path), "bytes": result.size, "model": result.model, "nodes": result.nodes})
