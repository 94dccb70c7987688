"""The command line: parses arguments and prints; the API does the work.

Exit status: 0, 1 for a mistake in the user's files or data, 2 for wrong usage, 130 after Ctrl-C. With `--json` the last
line of standard output is one object. Modules are imported inside the verbs, so that each command pays only for what it
uses.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

import dlc

if TYPE_CHECKING:
    from dlc.compiler.errors import Diagnostic

SPEC = click.argument("spec", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on the last line.")
MODEL = click.option("--model", help="A model of the file; default: the one its first recipe trains, or its only one.")
SETTINGS = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a setting: train.batch=64, data.source=mnist.",
)
DATA = click.option("--data", type=click.Path(path_type=Path), help="Directory or file that the data is read from.")
THREADS = click.option("--threads", type=click.IntRange(min=1), help="Threads to use; default: all cores.")
BATCH = click.option("--batch", type=click.IntRange(min=1), help="Number of samples per call.")
TARGET = click.option(
    "--target", default="cpu", show_default=True, help="cpu, x86-64-v3, cuda, cuda:sm_90 … (see dlc targets)."
)
WEIGHTS = click.option(
    "--weights", type=click.Path(path_type=Path), help="A .safetensors file; default: fresh weights."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(dlc.__version__, prog_name="dlc")
def commands() -> None:
    """Describe a neural network and its training in one text file; compile it; run it."""


@commands.command()
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
@SETTINGS
@JSON
def check(specs: tuple[Path, ...], settings: tuple[str, ...], as_json: bool) -> None:
    """Check every name, shape and expectation of spec files; report all mistakes."""
    from dlc import api

    found: list[Diagnostic] = []
    for spec in specs:
        try:
            api.check(spec, settings=settings)
        except dlc.DlcError as error:
            found.extend(error.diagnostics)
            click.echo("\n\n".join(d.render() for d in error.diagnostics) + "\n", err=True)
    if as_json:
        from dlc import report

        emit_json({"diagnostics": [report.diagnostic(d) for d in found]})
    elif not found:
        click.echo(f"{', '.join(map(str, specs))}: no mistakes")
    if found:
        sys.exit(1)


@commands.command()
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit 1 if a file would change.")
def fmt(specs: tuple[Path, ...], only_check: bool) -> None:
    """Format spec files in place."""
    from dlc import api

    status = 0
    for spec in specs:
        try:
            if api.format_file(spec, write=not only_check):
                click.echo(f"{'would format' if only_check else 'formatted'} {spec}")
                status = max(status, int(only_check))
        except (dlc.DlcError, dlc.RuntimeFault) as error:
            click.echo(f"{error}\n", err=True)
            status = 1
    sys.exit(status)


@commands.command()
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
def show(
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


@commands.command()
@SPEC
@click.option("--recipe", help="A train section of the file; default: the first.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory for the results; default: runs/RECIPE.")
@DATA
@SETTINGS
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in the directory, bit for bit.")
@THREADS
@JSON
def train(
    spec: Path,
    recipe: str | None,
    out: Path | None,
    data: Path | None,
    settings: tuple[str, ...],
    resume: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Train a model by a recipe of the file and compile the best weights."""
    from dlc import api

    result = api.train(
        spec, recipe=recipe, out=out, data=data, settings=settings, resume=resume, threads=threads, progress=True
    )
    click.echo(f"test error  {result.test_error:.2%}")
    click.echo(f"epochs      {result.epochs}")
    click.echo(f"time        {result.seconds:.1f} s")
    click.echo(f"artifact    {result.artifact}")
    if as_json:
        emit_json(
            {
                "test_error": result.test_error,
                "epochs": result.epochs,
                "seconds": result.seconds,
                "artifact": str(result.artifact),
                "out": str(result.out),
            }
        )


@commands.command(name="compile")
@SPEC
@MODEL
@TARGET
@WEIGHTS
@click.option(
    "--partial", is_flag=True, help="Take those of the --weights whose name and shape fit; say what does not."
)
@BATCH
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The artifact; default: MODEL.dlc.")
@SETTINGS
@JSON
def compile_(
    spec: Path,
    model: str | None,
    target: str,
    weights: Path | None,
    partial: bool,
    batch: int | None,
    output: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compile a model of the file into an artifact."""
    from dlc import api

    if partial and weights is None:
        raise click.UsageError("--partial is about --weights, which is not given")
    result = api.compile_to_file(
        spec, output, model=model, target=target, weights=weights, batch=batch, settings=settings, partial=partial
    )
    for line in result.differences:
        click.echo(line, err=True)
    if weights is None:
        click.echo("no --weights given: the artifact holds freshly initialised weights", err=True)
    click.echo(f"{result.artifact}  {result.size / 1e6:.2f} MB  {result.target}  compiled in {result.seconds:.1f} s")
    if as_json:
        emit_json(
            {
                "artifact": str(result.artifact),
                "bytes": result.size,
                "differences": result.differences,
                "model": result.model,
                "seconds": result.seconds,
                "target": result.target,
            }
        )


@commands.command()
@click.argument("model_file", metavar="SPEC", type=click.Path(path_type=Path))
@MODEL
@WEIGHTS
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The ONNX file; default: MODEL.onnx.")
@SETTINGS
@JSON
def export(
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


@commands.command(name="eval")
@click.argument("artifact", type=click.Path(path_type=Path))
@DATA
@click.option("--source", help="The data source, e.g. mnist; default: the one the model was trained on.")
@click.option("--batch", type=click.IntRange(min=1), default=256, show_default=True, help="Number of samples per call.")
@THREADS
@JSON
def eval_(
    artifact: Path, data: Path | None, source: str | None, batch: int, threads: int | None, as_json: bool
) -> None:
    """Measure a compiled model's error on the test part of a data set."""
    from dlc import measuring

    result = measuring.evaluate(artifact, data=data, source=source, batch=batch, threads=threads)
    click.echo(
        f"test error  {result.test_error:.2%}  ({result.images} images of {result.source}, {result.seconds:.2f} s)"
    )
    if as_json:
        emit_json(
            {
                "test_error": result.test_error,
                "images": result.images,
                "source": result.source,
                "seconds": result.seconds,
            }
        )


@commands.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes to show.")
@THREADS
@JSON
def run(artifact: Path, file: Path, top: int, threads: int | None, as_json: bool) -> None:
    """Classify an image file, or the arrays of an .npy or .npz file."""
    from dlc import measuring

    results = measuring.run(artifact, file, top=top, threads=threads)
    for index, classes in enumerate(results):
        if len(results) > 1:
            click.echo(f"sample {index}")
        for entry in classes:
            click.echo(f"{entry['probability']:8.2%}  {entry['name']}")
    if as_json:
        emit_json({"samples": results})


@commands.command()
@click.argument("model_file", metavar="ARTIFACT|SPEC", type=click.Path(path_type=Path))
@MODEL
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Number of samples per call.")
@click.option("--seconds", type=click.FloatRange(min=0.05), default=2.0, show_default=True, help="How long to measure.")
@click.option("--layers", is_flag=True, help="Time, GFLOP/s and share of each kernel.")
@THREADS
@JSON
def bench(
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


@commands.command()
@JSON
def targets(as_json: bool) -> None:
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


def emit_json(result: dict[str, Any]) -> None:
    """Prints one JSON object as the last line."""
    click.echo(json.dumps(result))


def main() -> None:
    """The command `dlc`: turns the user's mistakes into messages and exit statuses."""
    gc.set_threshold(50_000)  # a command makes little garbage: looking for it often takes a tenth of its time
    try:
        commands.main(standalone_mode=False)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away: nothing is left to say, also not at interpreter exit
        sys.exit(1)
    except (dlc.DlcError, dlc.RuntimeFault) as error:
        click.echo(str(error), err=True)
        if "--json" in sys.argv:
            from dlc import report

            emit_json({"diagnostics": report.diagnostics(error)})
        sys.exit(getattr(error, "status", 1))  # training that Ctrl-C stopped has one of its own
    except MemoryError as error:
        click.echo(f"error: not enough memory: {error or 'the machine has no more'}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
