"""The interpreter: runs a graph by the reference rules, in numpy. It is what compiled code is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np

from dlc.compiler.ir import Constant, Graph, N, Op, Source, Value

Feeds = Mapping[str, np.ndarray]
"""Arrays by the keys of inputs and parameters, parameters in their form in memory (packed where they have a layout)."""


def interpret(graph: Graph, feeds: Feeds) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The outputs by name, and what the updated parameters hold after the run, by key.

    The arithmetic is done in the feeds' element type: float64 feeds give float64 results (for gradient checks).
    Raises ValueError for a missing feed or one of another shape.
    """
    results = _run((*graph.outputs.values(), *graph.updates.values()), graph, feeds)
    count = len(graph.outputs)
    updated = {_key(p): r for p, r in zip(graph.updates, results[count:], strict=True)}
    return dict(zip(graph.outputs, results[:count], strict=True)), updated


def evaluate(values: Sequence[Value], feeds: Feeds) -> list[np.ndarray]:
    """The arrays of some values."""
    return _run(values, Graph("values", (), {str(i): v for i, v in enumerate(values)}), feeds)


def bind_batch(op: Op, batch: int) -> Op:
    """The op with N replaced by a number in its fields (the shape of a broadcast or a reshape)."""
    changed = {}
    for field in fields(op):
        value = getattr(op, field.name)
        if isinstance(value, tuple) and any(item is N for item in value):
            changed[field.name] = tuple(batch if item is N else item for item in value)
    return replace(op, **changed) if changed else op


def _run(roots: Sequence[Value], graph: Graph, feeds: Feeds) -> list[np.ndarray]:
    batch, precision = _batch(graph, feeds), _precision(graph, feeds)
    remaining = {v: len(users) for v, users in graph.users.items()}
    for root in roots:
        remaining[root] += 1
    arrays: dict[Value, np.ndarray] = {}
    for value in graph.values:
        if isinstance(value.op, Source):
            arrays[value] = _given(value, feeds, precision)
            continue
        op = value.op if batch is None else bind_batch(value.op, batch)
        arrays[value] = np.asarray(op.reference(*(arrays[o] for o in value.operands)))
        for operand in value.operands:
            remaining[operand] -= 1
            if not remaining[operand]:
                del arrays[operand]
    return [arrays[root] for root in roots]


def _given(value: Value, feeds: Feeds, precision: np.dtype | None) -> np.ndarray:
    if isinstance(value.op, Constant):
        data = value.op.value
        return data.astype(precision) if precision is not None and value.type.dtype.is_float else data
    key = _key(value)
    if key not in feeds:
        raise ValueError(f"no array was given for {key}: {value.type}")
    array = np.asarray(feeds[key])
    expected = value.type.shape
    if array.ndim != len(expected) or any(d is not N and d != n for d, n in zip(expected, array.shape, strict=True)):
        raise ValueError(f"{key} is {list(array.shape)}; expected {value.type}")
    return array


def _batch(graph: Graph, feeds: Feeds) -> int | None:
    """The number of samples: the first size of the feeds whose type has the batch."""
    sizes = {
        _key(v): np.asarray(feeds[_key(v)]).shape[0]
        for v in graph.values
        if isinstance(v.op, Source) and v.type.shape[:1] == (N,) and _key(v) in feeds
    }
    if len(set(sizes.values())) > 1:
        raise ValueError("the inputs have different batches: " + ", ".join(f"{k} {n}" for k, n in sizes.items()))
    return next(iter(sizes.values()), None)


def _precision(graph: Graph, feeds: Feeds) -> np.dtype | None:
    """float64 where a feed is float64 although the graph holds narrower floats; constants then follow."""
    fed = (np.asarray(feeds[_key(v)]) for v in graph.values if isinstance(v.op, Source) and _key(v) in feeds)
    return np.dtype(np.float64) if any(a.dtype == np.float64 for a in fed) else None


def _key(value: Value) -> str:
    assert isinstance(value.op, Source)
    return value.op.key
