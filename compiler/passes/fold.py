"""Folding for inference: what depends on weights alone is computed once, at compile time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dlc.compiler.interpret import evaluate
from dlc.compiler.ir import Graph, Parameter, Source, Value, source
from dlc.compiler.passes.rewrite import only_weights

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class FoldConstants:
    """Values that depend on weights alone become weights: parameters "derived.LAYER.0", "derived.LAYER.1", ….

    Computed in float64 and rounded once.
    """

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, dict[str, np.ndarray]]:
        """The graph, and the weights that it still reads."""
        fixed = only_weights(graph)
        needed = {o for v in graph.values if not fixed[v] for o in v.operands if fixed[o]}
        needed |= {v for v in (*graph.outputs.values(), *graph.updates.values()) if fixed[v]}
        folded = [v for v in graph.values if v in needed and not isinstance(v.op, Source)]
        kept = dict(weights)
        replaced: dict[Value, Value] = {}
        exact = {k: a.astype(np.float64) if a.dtype.kind == "f" else a for k, a in weights.items()}
        numbers: Counter[str] = Counter()
        for value, array in zip(folded, evaluate(folded, exact), strict=True):
            key = ".".join(filter(None, ["derived", value.label, str(numbers[value.label])]))
            numbers[value.label] += 1
            kept[key] = np.ascontiguousarray(array.astype(value.type.dtype.numpy))
            replaced[value] = source(Parameter(key, value.type, trainable=False), value.span, value.label)
        graph = graph.rewrite(replaced) if replaced else graph
        used = [v.op.key for v in graph.parameters if isinstance(v.op, Source)]
        return graph, {key: kept[key] for key in used}
