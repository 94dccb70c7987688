"""What a file determines without running: arrays, tensors' shapes, and everything that is computed of them alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from dlc.compiler.importing.values import Flow, Item, Known, Refusal, Site


def shape_of(site: Site, flow: Flow) -> Known:
    """Shape: the batch first, which may be any."""
    rank = len(flow.shape) + 1
    start, stop = site.attribute("start", 0), site.attribute("end", rank)
    first, other = (np.array((batch, *flow.shape)[slice(start, stop)], np.int64) for batch in site.batch)
    return Known(first, None if np.array_equal(first, other) else other, op="Shape")


def folded(site: Site, domain_versions: Mapping[str, int]) -> Known | tuple[Known, ...]:
    """The results of a node whose inputs are all known, by ONNX's own reference. Raises Refusal where that has none."""
    given = [i for i in site.inputs if isinstance(i, Known)]
    results = [_run(site, domain_versions, other=False)]
    if any(i.other is not None for i in given):
        results.append(_run(site, domain_versions, other=True))
    made = []
    for arrays in zip(*results, strict=True):
        differs = len(arrays) == 2 and not np.array_equal(*arrays)
        label = site.node.output[0] if site.node.op_type in ("Constant", "ConstantOfShape") else None
        made.append(Known(arrays[0], arrays[1] if differs else None, label, site.node.op_type, tuple(given)))
    return made[0] if len(made) == 1 else tuple(made)


def _run(site: Site, versions: Mapping[str, int], *, other: bool) -> list[np.ndarray]:
    feeds: dict[str, np.ndarray] = {}
    for name, item in zip(site.node.input, site.inputs, strict=True):
        if isinstance(item, Known):
            feeds[name] = item.other if other and item.other is not None else item.array
    inputs = [onnx.ValueInfoProto(name=name) for name in feeds]
    outputs = [onnx.ValueInfoProto(name=name) for name in site.node.output if name]
    graph = helper.make_graph([site.node], "constant", inputs, outputs)
    opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    try:
        found = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(None, feeds)
    except Exception as error:  # the reference raises whatever its numpy code does
        raise Refusal(f"its constant cannot be computed: {error}") from error
    return [np.asarray(array) for array in found]


def is_known(items: tuple[Item | None, ...]) -> bool:
    """Whether nothing flows into a node."""
    return all(item is None or isinstance(item, Known) for item in items)
