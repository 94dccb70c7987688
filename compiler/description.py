"""A network as plain data, which an artifact carries, and back: for other image sizes, for export, for looking at."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from dlc.compiler.catalog import catalog
from dlc.compiler.errors import DlcError
from dlc.compiler.folding import folding
from dlc.compiler.layers.base import ArgumentError, Layer
from dlc.compiler.network import Network, NetworkInput, NetworkOutput, Tensor, UnfitCall, call_layer, inference_form
from dlc.compiler.source import SourceFile, Span
from dlc.runtime.artifact import Artifact
from dlc.runtime.deferred import np
from dlc.runtime.transformed import layouts_of


class _Input(msgspec.Struct, frozen=True):
    name: str
    shape: tuple[int, ...]
    dtype: str


class _Call(msgspec.Struct, frozen=True, omit_defaults=True):
    """`inputs` are numbers: the network's inputs come first, then its calls."""

    name: str
    layer: str
    inputs: tuple[int, ...]
    arguments: dict[str, Any] = {}
    weights: dict[str, str] = {}


class _Description(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    inputs: tuple[_Input, ...]
    calls: tuple[_Call, ...]
    outputs: dict[str, int]
    measured: str = ""


def describe(network: Network) -> msgspec.Raw:
    """The network's inference form, as JSON."""
    network = inference_form(network)
    numbers = {id(maker): number for number, maker in enumerate((*network.inputs, *network.calls))}
    calls = [
        _Call(
            call.name,
            call.layer.keyword,
            tuple(numbers[id(t.producer)] for t in call.inputs),
            {f.name: getattr(call.layer, f.name) for f in dataclasses.fields(call.layer)},
            dict(call.weights),
        )
        for call in network.calls
    ]
    made = _Description(
        network.name,
        tuple(_Input(i.name, i.shape, i.dtype) for i in network.inputs),
        tuple(calls),
        {o.name: numbers[id(o.tensor.producer)] for o in network.outputs},
        network.measured,
    )
    return msgspec.Raw(msgspec.json.encode(made))


def network_of(artifact: Artifact) -> Network:
    """The network that an artifact was compiled from, its inference form; calls have lines of a text that shows them.

    Raises DlcError (E0864) where the artifact has none, or one that this version cannot read.
    """
    name = artifact.manifest.model
    if bytes(artifact.manifest.network) == b"null":
        raise DlcError.of("E0864", f"the artifact of {name} says nothing about its network")
    try:
        return described(artifact.manifest.network)
    except (msgspec.DecodeError, KeyError, IndexError, TypeError, ArgumentError, UnfitCall) as error:
        raise DlcError.of(
            "E0864",
            f"the network in the artifact of {name} is of another version of dlc: {error}",
            help="compile the spec again",
        ) from error


def weights_of(artifact: Artifact, network: Network) -> dict[str, np.ndarray]:
    """Canonical weights of an artifact's network, `network_of(artifact)`, unpacked.

    Batch norms that were folded into the layer before are neutral: what they did is in that layer's weights.
    """
    made = folding(network)
    return made.unfold(folded_weights(artifact, made.network))


def folded_weights(artifact: Artifact, folded: Network) -> dict[str, np.ndarray]:
    """The canonical weights of an artifact's folded network."""
    packed = layouts_of(artifact.manifest.program.weights)
    weights = {}
    for name in folded.parameter_specs():
        array, layout = artifact.weights[name], packed.get(name)
        array = array if layout is None else layout.unpack(array)
        weights[name] = array.astype(np.float32, copy=False) if array.dtype.itemsize == 2 else array
    return weights


def described(data: bytes | msgspec.Raw) -> Network:
    """The network that `describe` wrote down. Raises what reading and building it raises where it does not make sense."""
    description = msgspec.json.decode(data, type=_Description)
    layers = catalog("dlc.compiler.layers", Layer)
    lines = [f"{call.name}: {_written(call)}" for call in description.calls]
    text = SourceFile(f"the network of {description.name}", "\n".join(lines) + "\n")
    spans = [Span(text, start, start + len(line)) for start, line in zip(text.line_starts, lines, strict=False)]
    nowhere = Span(text, 0, 0)
    inputs = tuple(NetworkInput(i.name, i.shape, nowhere, i.dtype) for i in description.inputs)
    tensors = [Tensor(i.shape, i, nowhere) for i in inputs]
    calls = []
    for call, span in zip(description.calls, spans, strict=True):
        layer = layers[call.layer](**{name: _tuples(value) for name, value in call.arguments.items()})
        calls.append(call_layer(call.name, layer, tuple(tensors[i] for i in call.inputs), call.weights, span))
        tensors.append(calls[-1].output)
    outputs = tuple(NetworkOutput(name, tensors[i], False, nowhere) for name, i in description.outputs.items())
    return Network(description.name, inputs, tuple(calls), outputs, measured=description.measured)


def _written(call: _Call) -> str:
    return f"{call.layer}({', '.join(f'{name}={value}' for name, value in call.arguments.items())})"


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
