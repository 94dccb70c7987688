"""`dlc import`: write a spec and weights for a model in ONNX."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import JSON, emit_json


@click.command(name="import")
@click.argument("file", metavar="ONNX", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The directory to write to; default: MODEL here.")
@click.option("--model", help="The model's name; default: the graph's, or the file's.")
@click.option(
    "--force", is_flag=True, help="Write to a directory that holds other files, over those of the same names."
)
@JSON
def command(file: Path, output: Path | None, model: str | None, force: bool, as_json: bool) -> None:
    """Write a spec and weights for a model in ONNX."""
    from dlc import importing

    result = importing.import_onnx(file, output, model=model, force=force)
    click.echo(f"{result.spec}  {result.lines} lines, {result.parameters:,} parameters, {result.macs:,} multiply-adds")
    click.echo(f"{result.weights}  {result.weights.stat().st_size / 1e6:.2f} MB")
    if as_json:
        emit_json(
            {
                "spec": str(result.spec),
                "weights": str(result.weights),
                "model": result.model,
                "params": result.parameters,
                "macs": result.macs,
                "lines": result.lines,
            }
        )
