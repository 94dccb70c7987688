"""Folding for inference: what depends on weights alone is computed once, at compile time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from dlc.compiler.interpret import evaluate
from dlc.compiler.ir import Graph, Parameter, Source, Value, source
from dlc.compiler.ops.winograd import WinogradWeights
from dlc.compiler.passes.rewrite import only_weights
from dlc.runtime.layout import Transform
from dlc.runtime.threads import available

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class FoldConstants:
    """Values that depend on weights alone become weights: parameters "derived.LAYER.0", "derived.LAYER.1", ….

    Computed in float64 and rounded once. Transformed weights of convolutions are larger than what they are made of: they
    only become parameters with a transform, to be made when they are used.
    """

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, dict[str, np.ndarray]]:
        """The graph, and the weights that it still reads, but for those with a transform."""
        fixed = only_weights(graph)
        needed = {o for v in graph.values if not fixed[v] for o in v.operands if fixed[o]}
        needed |= {v for v in (*graph.outputs.values(), *graph.updates.values()) if fixed[v]}
        folded = [v for v in graph.values if v in needed and not isinstance(v.op, Source)]
        kept = dict(weights)
        replaced: dict[Value, Value] = {}
        numbers: Counter[str] = Counter()
        transforms = [_transform(value) for value in folded]
        now = [value for value, transform in zip(folded, transforms, strict=True) if transform is None]
        with ThreadPoolExecutor(available()) as pool:
            computed = dict(zip(now, pool.map(lambda value: _computed(value, weights), now), strict=True))
        for value, transform in zip(folded, transforms, strict=True):
            key = ".".join(filter(None, ["derived", value.label, str(numbers[value.label])]))
            numbers[value.label] += 1
            if transform is None:
                kept[key] = computed[value]
            made = Parameter(key, value.type, trainable=False, transform=transform)
            replaced[value] = source(made, value.span, value.label)
        graph = graph.rewrite(replaced) if replaced else graph
        used = [v.op.key for v in graph.parameters if isinstance(v.op, Source)]
        return graph, {key: kept[key] for key in used if key in kept}


def _transform(value: Value) -> Transform | None:
    """How to make a value of a canonical parameter alone when it is used; None where it is to be computed now."""
    if not isinstance(value.op, WinogradWeights):
        return None
    (weight,) = value.operands
    if not isinstance(weight.op, Parameter) or weight.op.layout is not None:
        return None
    return value.op.transform(weight.op.key)


def _computed(value: Value, weights: Weights) -> np.ndarray:
    """A value that depends on weights alone, in its own type."""
    needed = [v.op.key for v in Graph("value", (), {"": value}).parameters if isinstance(v.op, Source)]
    exact = {k: weights[k].astype(np.float64) if weights[k].dtype.kind == "f" else weights[k] for k in needed}
    (array,) = evaluate([value], exact)
    return np.ascontiguousarray(array, value.type.dtype.numpy)
