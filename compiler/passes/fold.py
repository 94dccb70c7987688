"""Folding for inference: what depends on weights alone is computed once, at compile time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from dlc.compiler.interpret import evaluate
from dlc.compiler.ir import Graph, Parameter, Source, Value, source
from dlc.compiler.passes.rewrite import only_weights
from dlc.runtime.threads import available

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
        numbers: Counter[str] = Counter()
        with ThreadPoolExecutor(available()) as pool:
            computed = list(pool.map(lambda value: _computed(value, weights), folded))
        for value, array in zip(folded, computed, strict=True):
            key = ".".join(filter(None, ["derived", value.label, str(numbers[value.label])]))
            numbers[value.label] += 1
            kept[key] = array
            replaced[value] = source(Parameter(key, value.type, trainable=False), value.span, value.label)
        graph = graph.rewrite(replaced) if replaced else graph
        used = [v.op.key for v in graph.parameters if isinstance(v.op, Source)]
        return graph, {key: kept[key] for key in used}


def _computed(value: Value, weights: Weights) -> np.ndarray:
    """A value that depends on weights alone, in its own type."""
    needed = [v.op.key for v in Graph("value", (), {"": value}).parameters if isinstance(v.op, Source)]
    exact = {k: weights[k].astype(np.float64) if weights[k].dtype.kind == "f" else weights[k] for k in needed}
    (array,) = evaluate([value], exact)
    return np.ascontiguousarray(array, value.type.dtype.numpy)
