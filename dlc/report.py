"""What the command line prints: tables of networks and profiles, and the same as plain data for `--json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlc.compiler.errors import Diagnostic, DlcError
from dlc.compiler.network import Network
from dlc.figures.family import families, family_tables
from dlc.figures.table import Table as Figure
from dlc.figures.table import table
from dlc.runtime.errors import RuntimeFault

if TYPE_CHECKING:
    from dlc.compiler.codegen.peaks import Peaks
    from dlc.tuning.tune import TuningReport


def diagnostic(d: Diagnostic) -> dict[str, Any]:
    """A diagnostic as plain data; file, line and column are null for a mistake without a place."""
    return {
        "code": d.code,
        "severity": d.severity,
        "message": d.message,
        "file": d.span.file.name if d.span else None,
        "line": d.span.line if d.span else None,
        "column": d.span.column if d.span else None,
        "help": d.help,
    }


def diagnostics(error: DlcError | RuntimeFault) -> list[dict[str, Any]]:
    """The diagnostics of an error as plain data."""
    if isinstance(error, DlcError):
        return [diagnostic(d) for d in error.diagnostics]
    return [diagnostic(Diagnostic(error.code, error.message, help=error.help))]


def network(net: Network) -> dict[str, Any]:
    """A network as plain data: totals of the inference form, and a row per layer call.

    `params` counts trained weights and biases (a shared weight once), `macs` multiply-adds of convolutions and linear
    layers for one sample, `activation_bytes` the float32 output for one sample.
    """
    inference = {id(call) for call in net.inference_calls()}
    counted: set[str] = set()
    layers = []
    for call in net.calls:
        fresh = {key: name for key, name in call.weights.items() if name not in counted}
        counted.update(fresh.values())
        layers.append(
            {
                "name": call.name,
                "op": call.layer.keyword,
                "output_shape": list(call.output.shape),
                "params": sum(_size(call.parameters[key].shape) for key in fresh if call.parameters[key].trainable),
                "macs": call.layer.macs(*(t.shape for t in call.inputs)),
                "activation_bytes": 4 * _size(call.output.shape),
                "training_only": id(call) not in inference,
            }
        )
    kept = [row for row in layers if not row["training_only"]]
    return {
        "name": net.name,
        "inputs": [{"name": i.name, "shape": list(i.shape)} for i in net.inputs],
        "outputs": [
            {"name": o.name, "shape": list(o.tensor.shape), "training_only": o.training_only} for o in net.outputs
        ],
        "params": sum(row["params"] for row in kept),
        "macs": sum(row["macs"] for row in kept),
        "params_training": sum(row["params"] for row in layers),
        "macs_training": sum(row["macs"] for row in layers),
        "activation_bytes": sum(row["activation_bytes"] for row in kept),
        "layers": layers,
    }


def print_networks(networks: Sequence[Network]) -> None:
    """Prints the tables of networks as papers have them: a family's in one, a column for each."""
    console = _console()
    for family in families(networks):
        tables = [table(family[0])] if len(family) == 1 else family_tables(family, console.width)
        for figure in tables:
            print_table(figure, console)


PLAIN = str.maketrans({"×": "x", "→": ">", "–": "-", **dict.fromkeys("⎡⎢⎣", "["), **dict.fromkeys("⎤⎥⎦", "]")})
"""What stands for the signs of tables where the output's encoding has no Unicode."""


def print_table(figure: Figure, console: Console) -> None:
    """Prints a table of texts. Where a terminal is too narrow for it, some of the columns stand in a table below."""
    unicode = console.encoding.lower().startswith("utf")
    for part in figure.parts(console.width) if console.is_terminal else [figure]:
        shown = Table(title=part.title if unicode else part.title.translate(PLAIN), title_justify="left")
        for heading, number in part.headings:
            text = heading if unicode else heading.translate(PLAIN)
            shown.add_column(Text(text), justify="right" if number else "left", overflow="fold")
        for section in part.sections:
            for row in section:
                shown.add_row(*(Text(cell if unicode else cell.translate(PLAIN)) for cell in row))
            shown.add_section()
        console.print(shown, width=None if console.is_terminal else max(console.width, part.width), crop=False)


def print_layers(net: Network) -> None:
    """Prints every layer call of a network, a row each, then the totals."""
    facts = network(net)
    table = Table(
        title=f"{net.name}  ({', '.join(f'{i.name}: {list(i.shape)}' for i in net.inputs)})", title_justify="left"
    )
    table.add_column("layer")
    table.add_column("op")
    for heading in ("output", "parameters", "MACs", "activations"):
        table.add_column(heading, justify="right")
    for row in facts["layers"]:
        shape = " x ".join(map(str, row["output_shape"]))
        name = row["name"] + (" (training)" if row["training_only"] else "")
        table.add_row(
            name, row["op"], shape, _count(row["params"]), _count(row["macs"]), _bytes(row["activation_bytes"])
        )
    table.add_section()
    table.add_row("total", "", "", _count(facts["params"]), _count(facts["macs"]), _bytes(facts["activation_bytes"]))
    if facts["params_training"] != facts["params"]:
        table.add_row("in training", "", "", _count(facts["params_training"]), _count(facts["macs_training"]), "")
    _console().print(table)


def print_profile(rows: Sequence[Mapping[str, Any]], total_ms: float, peaks: Peaks) -> None:
    """Prints the table of a profile: one row per kernel with its time, rates, and share of the machine's peak."""
    table = Table()
    for heading in ("layer", "kernel"):
        table.add_column(heading, overflow="fold")
    for heading in ("ms", "of all", "GFLOP/s", "GB/s", "of the peak"):
        table.add_column(heading, justify="right", no_wrap=True)
    whole = sum(row["ms"] for row in rows) or 1.0
    for row in rows:
        memory = row["bound"] == "memory"
        table.add_row(
            row["layer"],
            row["what"],
            f"{row['ms']:.4f}",
            f"{row['ms'] / whole:.1%}",
            f"{row['gflops']:.1f}" if row["gflops"] else "",
            f"{row['gbps']:.1f}" if memory else "",
            f"{row['share']:.0%}" + (" memory" if memory else ""),
        )
    table.add_section()
    table.add_row("sum", "", f"{whole:.4f}", "", "", "", "")
    table.add_row("whole call", "", f"{total_ms:.4f}", "", "", "", "")
    console = _console()
    console.print(table)
    whose = f"this machine's peak on {peaks.threads} cores" if peaks.threads else "this GPU's peak, by its data sheet"
    console.print(
        f"{whose}: {peaks.flops / 1e9:.0f} GFLOP/s{' in registers' if peaks.threads else ''}, "
        f"{peaks.bytes / 1e9:.1f} GB/s from memory" + (" (measured on a busy machine)" if peaks.disturbed else ""),
        highlight=False,
    )


def print_gains(result: TuningReport) -> None:
    """Prints what a search found: a row per kernel, the largest gain first."""
    table = Table()
    for heading in ("layer", "kernel", "choice"):
        table.add_column(heading, overflow="fold")
    for heading in ("batch", "times", "µs before", "µs after", "gain"):
        table.add_column(heading, justify="right", no_wrap=True)
    for gain in result.gains:
        table.add_row(
            gain.layer,
            gain.kernel,
            gain.choice,
            str(gain.samples),
            str(gain.count),
            f"{gain.before_us:.1f}",
            f"{gain.after_us:.1f}",
            f"{1 - gain.after_us / gain.before_us:.0%}",
        )
    _console().print(table)


def tuning(result: TuningReport) -> dict[str, Any]:
    """What a search found as plain data."""
    return {**dataclasses.asdict(result), "database": str(result.database)}


def _console() -> Console:
    """A console that never cuts a table to the width of a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _size(shape: Sequence[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _bytes(number: int) -> str:
    return f"{number / 1e6:.2f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"
