"""Pairing: convolutions and linear layers of 16 bits read weights in the form that matrix units take."""

from __future__ import annotations

from dataclasses import dataclass

from dlc.compiler.ir import DType, Graph, Parameter, TensorType, Value, apply, source
from dlc.compiler.ops.convolution import Conv2d
from dlc.compiler.ops.indexing import static
from dlc.compiler.ops.linear import Linear
from dlc.compiler.ops.paired import (
    PairedConv2d,
    PairedLinear,
    can_pair,
    convolution_layout,
    linear_layout,
)
from dlc.compiler.passes.pack_weights import behind_flatten, flattened_image
from dlc.compiler.passes.rewrite import rewrite
from dlc.runtime.layout import Layout


@dataclass(frozen=True)
class PairWeights:
    """Conv2d → PairedConv2d and Linear → PairedLinear over weights of bfloat16 that are parameters, canonical so far.

    A weight's form depends on its layer alone; where layers that share one want several, they stay as they are.
    """

    def __call__(self, graph: Graph) -> Graph:
        """The graph over paired parameters."""
        paired: dict[Value, Value] = {}
        for weight in graph.parameters:
            if not isinstance(weight.op, Parameter) or weight.op.layout or weight.type.dtype is not DType.BFLOAT16:
                continue
            layouts = {_layout(u) if u.operands[1:] == (weight,) else None for u in graph.users.get(weight, ())}
            if len(layouts) != 1 or None in layouts:
                continue
            (layout,) = layouts
            assert layout is not None
            made = Parameter(weight.op.key, TensorType(layout.packed, DType.BFLOAT16), weight.op.trainable, layout)
            paired[weight] = source(made, weight.span, weight.label)

        def over(value: Value) -> Value | None:
            if not isinstance(value.op, Conv2d | Linear) or value.operands[1] not in paired:
                return None
            x, weight = value.operands
            if isinstance(value.op, Conv2d):
                return apply(PairedConv2d(value.op), x, paired[weight], span=value.span, label=value.label)
            x = behind_flatten(x)
            return apply(PairedLinear(value.op.features), x, paired[weight], span=value.span, label=value.label)

        return rewrite(graph, over)


def _layout(user: Value) -> Layout | None:
    op, x = user.op, user.operands[0]
    if isinstance(op, Conv2d):
        inputs = static(x.type.shape[3:])[0]
        return convolution_layout(op, inputs) if can_pair(op, inputs) else None
    if isinstance(op, Linear) and not op.block:
        return linear_layout(op.features, static(x.type.shape[1:])[0], flattened_image(x))
    return None
