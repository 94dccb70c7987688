"""`dlc bench`: measure latency and throughput of a model, or of training it."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from dlc.commands.options import JSON, MEMORY, MODEL, PRECISIONS, THREADS, emit_json, with_options


@click.command(name="bench")
@click.argument("model_file", metavar="ARTIFACT|SPEC", type=click.Path(path_type=Path))
@MODEL
@click.option("--batch", type=click.IntRange(min=1), help="Number of samples per call; default: 1.")
@click.option("--target", help="What a spec is compiled for; default: this processor.")
@click.option(
    "--precision", type=PRECISIONS, help="Of a spec's weights and products; with --train it sets train.precision."
)
@click.option("--seconds", type=click.FloatRange(min=0.05), default=2.0, show_default=True, help="How long to measure.")
@click.option("--layers", is_flag=True, help="Each kernel's time, its rates, and its share of the machine's peak.")
@click.option("--train", is_flag=True, help="Measure a training step of a recipe of the spec, on random samples.")
@click.option("--recipe", help="With --train: a train section of the file; default: the first.")
@MEMORY
@THREADS
@JSON
def command(
    model_file: Path,
    model: str | None,
    batch: int | None,
    target: str | None,
    precision: str | None,
    seconds: float,
    layers: bool,
    train: bool,
    recipe: str | None,
    memory: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure latency and throughput of a model, or of training it."""
    from dlc import benching, report
    from dlc.progress import CompilingBar

    if recipe is not None and not train:
        raise click.UsageError("--recipe is about --train, which is not given")
    if memory is not None and not train:
        raise click.UsageError("--memory is about --train, which is not given")
    if train and (model is not None or batch is not None):
        raise click.UsageError(
            "--train measures a recipe, which has its own model and batch: leave --model and --batch"
        )
    if train and target is not None:
        raise click.UsageError("--train measures steps on this processor: leave --target")
    with CompilingBar() as bar:
        if train:
            result = benching.bench_step(
                model_file,
                recipe=recipe,
                settings=with_options((), memory, precision),
                seconds=seconds,
                layers=layers,
                threads=threads,
                progress=bar,
            )
        else:
            result = benching.bench(
                model_file,
                model=model,
                batch=batch or 1,
                seconds=seconds,
                layers=layers,
                threads=threads,
                target=target,
                precision=precision,
                progress=bar,
            )
    if result.peaks is not None:
        report.print_profile(result.layers, result.median_ms, result.peaks)
    click.echo(
        f"batch {result.batch}: median {result.median_ms:.3f} ms, best {result.best_ms:.3f} ms, "
        f"{result.images_per_second:,.0f} images/s, {result.runs} {'steps' if train else 'runs'}"
    )
    if as_json:
        peaks = result.peaks
        emit_json(
            {
                "median_ms": result.median_ms,
                "best_ms": result.best_ms,
                "images_per_second": result.images_per_second,
                "batch": result.batch,
                "runs": result.runs,
                "layers": result.layers,
                "peaks": None
                if peaks is None
                else {"threads": peaks.threads, "gflops": peaks.flops / 1e9, "gbps": peaks.bytes / 1e9},
            }
        )
