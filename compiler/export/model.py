"""A network and its weights as an ONNX model: one readable node or a few per layer, channels first, nothing folded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dlc.compiler.errors import DlcError
from dlc.compiler.export import activation, contraction, normalization, pooling, shape
from dlc.compiler.export.site import Given, Item, Node, Site
from dlc.compiler.layers.base import FeatureShape
from dlc.compiler.network import LayerCall, Network, NetworkInput, NetworkOutput, Tensor

OPSET, IR_VERSION = 21, 10
"""Those of ONNX 1.16 (2024): the first with group norm per channel."""

BATCH = "batch"
FAMILIES = (contraction.write, activation.write, normalization.write, pooling.write, shape.write)
MOST_BYTES = 2**31 - 2**20
"""A protobuf message holds less than 2 GB; the nodes need a little of it."""


def to_onnx(network: Network, weights: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The network's inference form over canonical weights by name (those that only training needs may be missing).

    Inputs, outputs and weights have the spec's names, values and nodes those of the layer calls; images are
    [batch, channels, height, width]. Raises DlcError for a layer that ONNX cannot say (E0854) and for weights of 2 GB
    or more (E0855).
    """
    specs = network.parameter_specs(training=False)
    size = sum(weights[name].nbytes for name in specs)
    if size > MOST_BYTES:
        raise DlcError.of(
            "E0855", f"{network.name} has {size / 1e9:.1f} GB of weights, more than the 2 GB that an ONNX file holds"
        )
    writing = _Writing(network, {name: Given(name) for name in specs})
    outputs = [o for o in network.outputs if not o.training_only]
    results = writing.outputs(outputs)
    names = _names(writing, results, reserved={*specs, *writing.inputs, *results})
    titles = _names(writing, {}, reserved=set())
    graph = helper.make_graph(
        [_node_proto(node, titles[node], names) for node in writing.nodes],
        network.name,
        [_value_info(i.name, i.shape, i.dtype) for i in network.inputs],
        [_value_info(o.name, o.tensor.shape) for o in outputs],
        [numpy_helper.from_array(np.ascontiguousarray(weights[name]), name) for name in specs],
        value_info=list(_inner_values(writing, names, set(results))),
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="dlc", producer_version=version("dlc")
    )


class _Writing:
    """The nodes of a network's calls, and which of them holds which tensor."""

    def __init__(self, network: Network, weights: Mapping[str, Given]) -> None:
        self.nodes: list[Node] = []
        self.inputs = {i.name: Given(i.name) for i in network.inputs}
        self.tensors: dict[int, tuple[Item, LayerCall]] = {}
        for call in network.inference_calls():
            site = Site(call, weights)
            result = _write(site, *(self.item(t) for t in call.inputs))
            self.nodes += site.nodes
            self.tensors[id(call.output)] = result, call

    def item(self, tensor: Tensor) -> Item:
        """What holds a tensor."""
        if isinstance(tensor.producer, NetworkInput):
            return self.inputs[tensor.producer.name]
        return self.tensors[id(tensor)][0]

    def outputs(self, wanted: list[NetworkOutput]) -> dict[str, Node]:
        """A node for each output: the one that computes it, or a copy where that is an input or another output already."""
        found: dict[str, Node] = {}
        for output in wanted:
            item = self.item(output.tensor)
            if isinstance(item, Given) or item in found.values():
                item = Node("Identity", (item,), {}, output.name)
                self.nodes.append(item)
            found[output.name] = item
        return found


def _write(site: Site, *inputs: Item) -> Item:
    for family in FAMILIES:
        result = family(site.call.layer, site, *inputs)
        if result is not None:
            return result
    raise site.refusal("the exporter does not know this layer", "replace it by layers that docs/export.md lists")


def _names(writing: _Writing, outputs: Mapping[str, Node], reserved: set[str]) -> dict[Node, str]:
    """Unique names: outputs have their own, a call's last node the call's, those on the way to it "CALL/Op"."""
    names = {node: name for name, node in outputs.items()}
    taken = set(reserved)
    wanted = {item: call.name for item, call in reversed(writing.tensors.values()) if isinstance(item, Node)}
    for node in writing.nodes:
        if node not in names:
            names[node] = _unique(wanted.get(node, f"{node.call}/{node.op}"), taken)
    return names


def _unique(name: str, taken: set[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found


def _node_proto(node: Node, title: str, names: Mapping[Node, str]) -> onnx.NodeProto:
    inputs = [item.name if isinstance(item, Given) else names[item] for item in node.inputs]
    attributes = {
        key: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for key, value in node.attributes.items()
    }
    return helper.make_node(node.op, inputs, [names[node]], name=title, **attributes)


def _inner_values(writing: _Writing, names: Mapping[Node, str], outputs: set[str]) -> Iterator[onnx.ValueInfoProto]:
    """The shapes of what calls compute, for readers of the file."""
    seen: set[Node] = set()
    for item, call in writing.tensors.values():
        if isinstance(item, Node) and names[item] not in outputs and item not in seen:
            seen.add(item)
            yield _value_info(names[item], call.output.shape)


def _value_info(name: str, shape: FeatureShape, dtype: str = "float32") -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [BATCH, *shape])
