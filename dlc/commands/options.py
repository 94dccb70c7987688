"""Arguments and options that several commands share, and the form of their JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import rich_click as click


class ImageSize(click.ParamType[tuple[int, int]]):
    """Height and width of an image: 224x320, or one number for both."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """The two numbers."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([1-9]\d{0,8})(?:x([1-9]\d{0,8}))?", str(value))
        if found is None:
            self.fail(f"{value!r} is no size: write height x width, as in 224x320", param, ctx)
        return int(found[1]), int(found[2] or found[1])


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
MEMORY = click.option(
    "--memory",
    metavar="SIZE",
    help="What training may take, such as 2GB: activations are computed twice rather than kept. Sets train.memory.",
)
DATA = click.option("--data", type=click.Path(path_type=Path), help="Directory or file that the data is read from.")
THREADS = click.option("--threads", type=click.IntRange(min=1), help="Threads to use; default: all cores.")
PRECISIONS = click.Choice(["fp32", "tf32", "bf16", "fp16", "float32", "bfloat16", "float16"])
PRECISION = click.option(
    "--precision",
    type=PRECISIONS,
    default="fp32",
    show_default=True,
    help="Of weights and products; sums stay fp32. tf32 and fp16 are for CUDA.",
)
STEP_PRECISION = click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16"]),
    help="Of the products' factors in training; weights and sums stay fp32. Sets train.precision.",
)
BATCH = click.option("--batch", type=click.IntRange(min=1), help="Number of samples per call.")
TARGET = click.option(
    "--target", default="cpu", show_default=True, help="cpu, x86-64-v3, cuda, cuda:sm_90 … (see dlc targets)."
)
WEIGHTS = click.option(
    "--weights", type=click.Path(path_type=Path), help="A .safetensors file; default: fresh weights."
)

NO_CACHE = click.option(
    "--no-cache", is_flag=True, help="Neither take compiled kernels from the user's cache folder nor keep them there."
)

NO_TUNING = click.option(
    "--no-tuning", is_flag=True, help="Leave what `dlc tune` measured: the cost models choose everything."
)


def emit_json(result: dict[str, Any]) -> None:
    """Prints one JSON object as the last line; with the warnings about the spec, where any were shown."""
    context = click.get_current_context(silent=True)
    shown = context.find_root().obj if context is not None else None
    if shown:
        from dlc import report

        result = {**result, "warnings": [report.diagnostic(d) for d in shown]}
    click.echo(json.dumps(result))


def with_options(settings: tuple[str, ...], memory: str | None, precision: str | None) -> tuple[str, ...]:
    """The settings with what `--memory` and `--precision` say."""
    given = {"memory": memory, "precision": precision}
    return (*settings, *(f"train.{name}={value}" for name, value in given.items() if value is not None))
