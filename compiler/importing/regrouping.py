"""Joins that a file writes flat, as chains and forks have them: what grows step by step, and forks in forks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dlc.compiler.importing.model import Reading
from dlc.compiler.importing.structure import Dominators, dominators
from dlc.compiler.importing.values import Flow
from dlc.compiler.layers.shape import Concat


def regrouped(reading: Reading) -> Reading:
    """A graph that computes the same, with

    - `concat(a, b)`, `concat(a, b, c)` → the second one goes on from the first (DenseNet as torchvision has it);
    - `concat(a, b, c)` where b and c share a way from the fork → `concat(a, concat(b, c))` (Inception-v3).
    """
    continued = _rebuilt(reading, _continued({}))
    return _rebuilt(continued, _nested(dominators(continued.flows)))


Step = Callable[[Flow, Flow], list[Flow]]
"""What stands for a concatenation, last, and what it needs: of the flow as it was, and of the one with new inputs."""


def _rebuilt(reading: Reading, step: Step) -> Reading:
    made: dict[int, Flow] = {}
    flows: list[Flow] = []
    for flow in reading.flows:
        inputs = tuple(made[id(i)] for i in flow.inputs)
        new = [flow if inputs == flow.inputs else replace(flow, inputs=inputs)]
        if isinstance(flow.layer, Concat):
            new = step(flow, new[0])
        made[id(flow)] = new[-1]
        flows += new
    inputs_by_name = {name: made[id(f)] for name, f in reading.inputs.items()}
    return Reading(inputs_by_name, {name: made[id(f)] for name, f in reading.outputs.items()}, tuple(flows))


def _continued(known: dict[tuple[object, ...], Flow]) -> Step:
    """A concatenation that begins with all parts of one in `known`, goes on from that."""

    def step(old: Flow, new: Flow) -> list[Flow]:
        parts = tuple(id(i) for i in old.inputs)
        for length in range(len(parts) - 1, 1, -1):
            first = known.get((old.layer, *parts[:length]))
            if first is not None:
                new = replace(new, inputs=(first, *new.inputs[length:]))
                break
        known[old.layer, *parts] = new
        return [new]

    return step


def _nested(before: Dominators) -> Step:
    """Neighbours that meet later than all the others are joined first."""

    def step(old: Flow, new: Flow) -> list[Flow]:
        source, start = before.nearest[id(old)], 0
        made: list[Flow] = []
        inputs: list[Flow] = []
        while start < len(old.inputs):
            stop = start + 1
            while stop < len(old.inputs) and before.meet(old.inputs[start], old.inputs[stop]) is not source:
                stop += 1
            part = new.inputs[start:stop]
            if 1 < len(part) < len(old.inputs):
                assert new.layer is not None
                made.append(replace(new, inputs=part, shape=new.layer.shape(*(i.shape for i in part))))
                part = (made[-1],)
            inputs += part
            start = stop
        return [*made, replace(new, inputs=tuple(inputs))]

    return step
