"""From a recipe to the graph that measures what goes through a training step, without making it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from dlc.compiler.autodiff import gradients
from dlc.compiler.ir import Graph, Parameter, Source, Value
from dlc.compiler.ops.elementwise import equal, less_equal, multiply, where
from dlc.compiler.ops.functions import absolute
from dlc.compiler.ops.indexing import static
from dlc.compiler.ops.reduction import reduce_sum
from dlc.compiler.precision import in_precision
from dlc.compiler.recipe import Recipe
from dlc.compiler.training_step import LOSS, Prepare, build_loss, weight_gradients

LARGEST = 3.4028234e38
"""The largest float32: what is not below it in size is infinite or no number."""


@dataclass(frozen=True)
class Watched:
    """One tensor of a step: a layer's `value`, a `weight`, or the `gradient` or `weight_gradient` of the loss by either.

    `size` counts its elements (a weight's without the zeros that packing adds), `place` says where in the spec it comes
    from. Its outputs are called `key` and a statistic: "value c1 sum", "… squares" (their sum), "… nonzero" and "… broken" (how
    many elements are not zero, and not finite).
    """

    kind: str
    name: str
    size: int
    place: str = ""

    @property
    def key(self) -> str:
        """What its outputs' names start with."""
        return f"{self.kind} {self.name}"


def build_watch(
    recipe: Recipe, batch: int, prepare: Prepare = lambda graph: graph
) -> tuple[Graph, tuple[Watched, ...]]:
    """A training step's values and gradients as statistics, and what they are about: forward, then backward.

    Inputs as of `build_part`; nothing is updated. Raises DlcError as `build_training` does.
    """
    graph = prepare(build_loss(recipe, batch, layers=True))
    loss = graph.outputs[LOSS]
    values = {k.removeprefix("value "): v for k, v in graph.outputs.items() if k.startswith("value ")}
    found = weight_gradients(recipe, graph)
    weights = {v.op.key: v for v in found if isinstance(v.op, Source)}
    slopes = dict(zip(values, gradients(loss, list(values.values())), strict=True))
    tensors: dict[Watched, Value] = {}
    for kind, group in (
        ("weight", weights),
        ("value", values),
        ("gradient", dict(reversed(slopes.items()))),
        ("weight_gradient", {name: found[v] for name, v in reversed(weights.items())}),
    ):
        for name, value in group.items():
            origin = values.get(name, weights.get(name, value))
            place = str(origin.span) if origin.span is not None else ""
            shape = origin.op.canonical_shape if isinstance(origin.op, Parameter) else static(value.type.shape)
            tensors[Watched(kind, name, prod(shape), place)] = value
    outputs = {f"{w.key} {name}": s for w, value in tensors.items() for name, s in _statistics(value).items()}
    watch = Graph(f"{graph.name}.watch", graph.inputs, {LOSS: loss, **outputs})
    return in_precision(watch, recipe.precision), tuple(tensors)


def _statistics(value: Value) -> dict[str, Value]:
    """Scalars of a tensor."""
    axes = tuple(range(value.type.rank))
    return {
        "sum": reduce_sum(value, axes),
        "squares": reduce_sum(multiply(value, value), axes),
        "nonzero": reduce_sum(where(equal(value, 0.0), 0.0, 1.0), axes),
        "broken": reduce_sum(where(less_equal(absolute(value), LARGEST), 0.0, 1.0), axes),
    }
