"""Writing models in other systems' formats: ONNX, and weights as safetensors."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlc.api import Settings, fresh_weights, one_network
from dlc.compiler.description import folded_weights, network_of, weights_of
from dlc.compiler.errors import DlcError
from dlc.compiler.folding import folding
from dlc.compiler.network import Network
from dlc.runtime.artifact import Artifact, load_artifact
from dlc.runtime.atomic import replace_file
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.weights import load_weights, match, save_weights

WEIGHTS = ".safetensors"

Weights = str | Path | Mapping[str, np.ndarray] | None


@dataclass(frozen=True)
class ExportReport:
    """A file that was written: where, how many bytes, which model; of an ONNX file its number of nodes, else None."""

    path: Path
    size: int
    model: str
    nodes: int | None = None


def export(
    model_file: str | Path,
    output: str | Path | None = None,
    *,
    model: str | None = None,
    weights: Weights = None,
    settings: Settings = (),
) -> ExportReport:
    """Writes a model of a spec file, or an artifact's, as ONNX, by default to MODEL.onnx here; its weights alone, canonical
    and by name, where `output` ends in .safetensors.

    `weights` of a spec is a .safetensors file or arrays by name; without, weights are freshly initialised. An artifact has its
    own: batch norms that were folded into the layer before are absent from its ONNX file, and neutral in its weights.

    Raises DlcError for mistakes in the spec, a layer that ONNX cannot say, and where the package onnx is missing; RuntimeFault
    for files that cannot be read and weights that do not fit.
    """
    path = Path(output) if output is not None else None
    only_weights = path is not None and path.suffix == WEIGHTS
    if not only_weights and importlib.util.find_spec("onnx") is None:
        raise DlcError.of("E0856", "writing ONNX needs the package onnx", help="pip install 'dlc[onnx]'")
    if Path(model_file).suffix == ".dlspec":
        network = one_network(model_file, model=model, settings=settings)
        arrays = _weights(network, weights)
    else:
        if model is not None or weights is not None or settings:
            raise RuntimeFault(
                "R0217",
                f"{model_file} is no spec: it holds one model with its weights",
                help="leave --model, --weights and --set out",
            )
        network, arrays = from_artifact(load_artifact(model_file, runs_here=False), folded=not only_weights)
    if path is not None and only_weights:
        save_weights(path, arrays)
        return ExportReport(path, path.stat().st_size, network.name)
    from dlc.compiler.export.model import to_onnx  # onnx: a quarter of a second, after all that may still be wrong

    made = to_onnx(network, arrays)
    path = path or Path(f"{network.name}.onnx")
    with replace_file(path) as file:
        file.write(made.SerializeToString())
    return ExportReport(path, path.stat().st_size, network.name, len(made.graph.node))


def from_artifact(artifact: Artifact, *, folded: bool) -> tuple[Network, dict[str, np.ndarray]]:
    """The network that an artifact was compiled from, or the folded one that it computes, and its canonical weights."""
    network = network_of(artifact)
    if not folded:
        return network, weights_of(artifact, network)
    network = folding(network).network
    return network, folded_weights(artifact, network)


def _weights(network: Network, weights: Weights) -> dict[str, np.ndarray]:
    """The canonical weights that inference needs, matched by name and shape."""
    if weights is None:
        weights = fresh_weights(network)
    arrays = load_weights(weights) if isinstance(weights, str | Path) else dict(weights)
    specs = network.parameter_specs(training=False)
    known = network.inference_weights(arrays)
    origin = str(weights) if isinstance(weights, str | Path) else "weights"
    return match({name: spec.shape for name, spec in specs.items()}, known, origin)
