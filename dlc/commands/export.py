"""`dlc export`: write a model as ONNX, or its weights as safetensors."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import JSON, MODEL, SETTINGS, WEIGHTS, emit_json


@click.command(name="export")
@click.argument("model_file", metavar="SPEC|ARTIFACT", type=click.Path(path_type=Path))
@MODEL
@WEIGHTS
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The file, .onnx or .safetensors; default: MODEL.onnx."
)
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
    """Write a model as ONNX; with -o FILE.safetensors its weights alone, by their canonical names."""
    from dlc import exporting

    result = exporting.export(model_file, output, model=model, weights=weights, settings=settings)
    if weights is None and model_file.suffix == ".dlspec":
        click.echo("no --weights given: the file holds freshly initialised weights", err=True)
    nodes = f"  {result.nodes} nodes" if result.nodes is not None else ""
    click.echo(f"{result.path}  {result.size / 1e6:.2f} MB{nodes}")
    if as_json:
        emit_json({"path": str(result.path), "bytes": result.size, "model": result.model, "nodes": result.nodes})
