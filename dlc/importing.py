"""Reading models in other systems' formats."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlc.api import vocabulary
from dlc.compiler import frontend
from dlc.compiler.errors import DlcError
from dlc.compiler.frontend.formatter import format_source
from dlc.compiler.layers.activation import Identity
from dlc.compiler.layers.arithmetic import Add, Multiply
from dlc.compiler.network import LayerCall, Network, Tensor
from dlc.compiler.source import SourceFile
from dlc.runtime.atomic import replace_file, write_fault
from dlc.runtime.weights import save_weights

if TYPE_CHECKING:
    from dlc.compiler.importing.spec import Spec
    from dlc.compiler.importing.values import Flow


@dataclass(frozen=True)
class ImportReport:
    """What was written: the spec and its weights, the model's name, its trained parameters, multiply-adds and lines."""

    spec: Path
    weights: Path
    model: str
    parameters: int
    macs: int
    lines: int


def import_onnx(
    file: str | Path, directory: str | Path | None = None, *, model: str | None = None, force: bool = False
) -> ImportReport:
    """Writes a spec and weights for an ONNX file to a directory, by default one here with the model's name.

    The files are MODEL.dlspec and MODEL.safetensors; `model` names the model, by default the file's graph or the file. Raises
    DlcError where the package onnx is missing, the file is none, or says what the language cannot (every operator that is
    not known, at once), and where the directory holds other files (with `force` they stay, and files of these names are
    replaced). Nothing is written then.
    """
    if importlib.util.find_spec("onnx") is None:
        raise DlcError.of("E0856", "reading ONNX needs the package onnx", help="pip install 'dlc[onnx]'")
    from dlc.compiler.importing.file import read_model
    from dlc.compiler.importing.model import read_graph
    from dlc.compiler.importing.spec import write

    path = Path(file)
    found = read_model(path)
    name = model_name(model, found.graph.name, path)
    folder = Path(directory) if directory is not None else Path(name)
    targets = folder / f"{name}.dlspec", folder / f"{name}.safetensors"
    _require_room(folder, force)
    spec = write(read_graph(found), found.producer_name, name)
    opset = next((o.version for o in found.opset_import if o.domain in ("", "ai.onnx")), 1)
    origin = f"{name}, imported from {path.name} (ONNX, opset {opset}); its weights are in {targets[1].name}."
    text, network = _checked(spec, origin, str(targets[0]))
    weights = _weights(network, spec.calls)
    _write(targets, text, weights)
    return ImportReport(*targets, name, *_counts(network), len(text.splitlines()))


def _write(targets: tuple[Path, Path], text: str, weights: Mapping[str, np.ndarray]) -> None:
    """Both files or none; a folder that was made for them goes with them."""
    folder = targets[0].parent
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_fault(folder, error) from error
    try:
        with replace_file(targets[0]) as out:
            out.write(text.encode())
            save_weights(targets[1], weights)
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


def model_name(wanted: str | None, graph: str, path: Path) -> str:
    """The model's name: the wanted one, the graph's if it tells something, or the file's.

    Raises DlcError (E0876) for a wanted name that the language does not take.
    """
    from dlc.compiler.importing.naming import identifier

    if wanted is not None:
        if identifier(wanted) != wanted:
            raise DlcError.of("E0876", f"{wanted!r} is no name of a model", help="use letters, digits and underscores")
        return wanted
    telling = graph and graph.lower() not in {"main_graph", "main", "graph", "torch_jit", "torch-jit-export", "model"}
    words = identifier((graph if telling else path.stem).replace("/", "_"), "Net").split("_")
    return "".join(word[:1].upper() + word[1:] for word in words)


def _checked(spec: Spec, comment: str, file: str) -> tuple[str, Network]:
    """The formatted text with what it expects, and the network that it is."""
    bare = frontend.check(SourceFile(file, spec.text(comment, ())), vocabulary()).models[spec.name].network
    parameters, macs = _counts(bare)
    expected = [f"params = {parameters:_}", f"macs = {macs:_}"] if macs else [f"params = {parameters:_}"]
    expected += [f"{o.name}: [{', '.join(map(str, o.tensor.shape))}]" for o in bare.outputs]
    text = format_source(SourceFile(file, spec.text(comment, expected)))
    return text, frontend.check(SourceFile(file, text), vocabulary()).models[spec.name].network


def _counts(network: Network) -> tuple[int, int]:
    """Trained parameters, and multiply-adds for one sample."""
    parameters = sum(int(np.prod(s.shape)) for s in network.parameter_specs().values() if s.trainable)
    return parameters, sum(c.layer.macs(*(t.shape for t in c.inputs)) for c in network.calls)


def _weights(network: Network, flows: tuple[Flow, ...]) -> dict[str, np.ndarray]:
    """The weights by their names in the spec, whose calls must be those that were read, connected as they were."""
    calls = [call for call in network.calls if not isinstance(call.layer, Identity)]
    flow_of: Mapping[int, Flow] = {id(c.output): f for c, f in zip(calls, flows, strict=True)}
    weights: dict[str, np.ndarray] = {}
    for call, flow in zip(calls, flows, strict=True):
        sources = [flow_of.get(id(_source(t))) for t in call.inputs]  # None: an input of the network
        wanted = [i if i.inputs else None for i in flow.inputs]
        order = id if isinstance(flow.layer, Add | Multiply) else lambda _: 0
        assert sorted(sources, key=order) == sorted(wanted, key=order), call.name
        assert type(call.layer) is type(flow.layer) and call.output.shape == flow.shape, call.name
        for key, name in call.weights.items():
            weights[name] = np.ascontiguousarray(flow.weights[key].array, np.float32)
    return weights


def _source(tensor: Tensor) -> Tensor:
    """What a tensor is a copy of."""
    while isinstance(tensor.producer, LayerCall) and isinstance(tensor.producer.layer, Identity):
        (tensor,) = tensor.producer.inputs
    return tensor


def _require_room(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise DlcError.of("E0875", f"{folder} is a file, not a folder")
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise DlcError.of("E0875", f"{folder} is not empty", help="choose another folder, or overwrite with --force")
