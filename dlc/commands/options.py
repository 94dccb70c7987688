"""Arguments and options that several commands share, and the form of their JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rich_click as click

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


def emit_json(result: dict[str, Any]) -> None:
    """Prints one JSON object as the last line."""
    click.echo(json.dumps(result))
