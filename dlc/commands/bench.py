"""`dlc bench`: measure latency and throughput of a model."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import JSON, MODEL, THREADS, emit_json


@click.command(name="bench")
@click.argument("model_file", metavar="ARTIFACT|SPEC", type=click.Path(path_type=Path))
@MODEL
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Number of samples per call.")
@click.option("--seconds", type=click.FloatRange(min=0.05), default=2.0, show_default=True, help="How long to measure.")
@click.option("--layers", is_flag=True, help="Time, GFLOP/s and share of each kernel.")
@THREADS
@JSON
def command(
    model_file: Path, model: str | None, batch: int, seconds: float, layers: bool, threads: int | None, as_json: bool
) -> None:
    """Measure latency and throughput of a model."""
    from dlc import measuring, report

    result = measuring.bench(model_file, model=model, batch=batch, seconds=seconds, layers=layers, threads=threads)
    if layers:
        report.print_profile(result.layers, result.median_ms)
    click.echo(
        f"batch {batch}: median {result.median_ms:.3f} ms, best {result.best_ms:.3f} ms, "
        f"{result.images_per_second:,.0f} images/s, {result.runs} runs"
    )
    if as_json:
        emit_json(
            {
                "median_ms": result.median_ms,
                "best_ms": result.best_ms,
                "images_per_second": result.images_per_second,
                "batch": batch,
                "runs": result.runs,
                "layers": result.layers,
            }
        )
