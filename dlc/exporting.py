"""Writing models in other systems' formats."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlc.api import Settings, fresh_weights, one_network
from dlc.compiler.errors import DlcError
from dlc.compiler.network import Network
from dlc.runtime.artifact import read_manifest
from dlc.runtime.atomic import replace_file
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.weights import load_weights, match


@dataclass(frozen=True)
class ExportReport:
    """An ONNX file that was written: where, how many bytes, which model, and its number of nodes."""

    path: Path
    size: int
    model: str
    nodes: int


def export(
    model_file: str | Path,
    output: str | Path | None = None,
    *,
    model: str | None = None,
    weights: str | Path | Mapping[str, np.ndarray] | None = None,
    settings: Settings = (),
) -> ExportReport:
    """Writes a model of a spec file as ONNX, by default to MODEL.onnx here.

    `weights` is a .safetensors file or arrays by name; without, weights are freshly initialised. Raises DlcError for
    mistakes in the spec, a layer that ONNX cannot say, and where the package onnx is missing; RuntimeFault for weights
    that do not fit and for an artifact, which holds compiled code and no network.
    """
    if Path(model_file).suffix != ".dlspec":
        raise _artifact_fault(Path(model_file))
    network = one_network(model_file, model=model, settings=settings)
    if importlib.util.find_spec("onnx") is None:
        raise DlcError.of("E0856", "writing ONNX needs the package onnx", help="pip install 'dlc[onnx]'")
    arrays = _weights(network, weights)
    from dlc.compiler.export.model import to_onnx  # onnx: a quarter of a second, after all that may still be wrong

    made = to_onnx(network, arrays)
    path = Path(output) if output is not None else Path(f"{network.name}.onnx")
    with replace_file(path) as file:
        file.write(made.SerializeToString())
    return ExportReport(path, path.stat().st_size, network.name, len(made.graph.node))


def _artifact_fault(path: Path) -> RuntimeFault:
    """Why an artifact is not exported. Raises RuntimeFault as loading does where the file is none."""
    name = read_manifest(path).model
    return RuntimeFault(
        "R0106",
        f"{path} holds compiled code, its weights folded and packed for it; there is no network in it to export",
        help=f"export the spec it was made from: dlc export SPEC --model {name} --weights FILE "
        "(`dlc train` leaves the weights beside the artifact, as best.safetensors)",
    )


def _weights(network: Network, weights: str | Path | Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """The canonical weights that inference needs, matched by name and shape."""
    if weights is None:
        return fresh_weights(network)
    arrays = load_weights(weights) if isinstance(weights, str | Path) else dict(weights)
    specs = network.parameter_specs(training=False)
    known = network.inference_weights(arrays)
    origin = str(weights) if isinstance(weights, str | Path) else "weights"
    return match({name: spec.shape for name, spec in specs.items()}, known, origin)
