"""Pairing in a training step: products of factors that are rounded to bfloat16 read pairs, made anew in every step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dlc.compiler.ir import DType, Graph, Value, apply
from dlc.compiler.ops.convolution import Conv2d, Conv2dInputGradient, Conv2dWeightGradient, Convolution
from dlc.compiler.ops.elementwise import cast
from dlc.compiler.ops.indexing import static
from dlc.compiler.ops.linear import Linear, LinearInputGradient, LinearOp, LinearWeightGradient
from dlc.compiler.ops.paired import PairedConv2d, PairedLinear, can_pair
from dlc.compiler.ops.paired_gradient import Grid, PairedWeightGradient, PairPixels, Planes
from dlc.compiler.ops.pairs import PairWeight
from dlc.compiler.ops.phases import MergePhases, phases
from dlc.compiler.ops.rounding import Round
from dlc.compiler.ops.shape import reshape
from dlc.compiler.panel import CHANNELS

BITS = 8
"""Significant bits of bfloat16."""


@dataclass(frozen=True)
class PairProducts:
    """round(x) · round(w) → products of pairs, for convolutions, linear layers and their gradients over weights in blocks of 32.

    What was rounded is kept as 16 bits in memory, beside the float32 numbers where others read these. Weights stay float32
    and are rounded and paired once a step. The numbers are the same but for the order of sums.
    """

    def __call__(self, graph: Graph) -> Graph:
        """The graph with its products exchanged."""
        return _Pairing(graph).run()


@dataclass
class _Pairing:
    graph: Graph
    memo: dict[Value, Value] = field(default_factory=dict)
    known: dict[object, Value] = field(default_factory=dict)

    def run(self) -> Graph:
        graph, memo = self.graph, self.memo
        for value in graph.values:
            made = self._paired(value)
            if made is None:
                operands = tuple(memo[o] for o in value.operands)
                same = all(a is b for a, b in zip(operands, value.operands, strict=True))
                made = value if same else Value(value.op, operands, value.type, value.span, value.label)
            memo[value] = made
        return Graph(
            graph.name,
            tuple(memo[v] for v in graph.inputs),
            {name: memo[v] for name, v in graph.outputs.items()},
            {memo[p]: memo[v] for p, v in graph.updates.items()},
        )

    def _paired(self, value: Value) -> Value | None:
        """A product over pairs; None where it stays as it is."""
        op = value.op
        if not isinstance(op, Convolution | LinearOp) or op.block != CHANNELS or op.bits > BITS:
            return None
        if not all(isinstance(o.op, Round) and o.op.bits <= BITS for o in value.operands):
            return None
        match op:
            case Conv2d():
                return self._forward(value, op)
            case Conv2dInputGradient():
                return self._by_image(value, op)
            case Conv2dWeightGradient():
                return self._by_weight(value, op)
            case Linear():
                weight = self._linear_weight(value, op, static(value.operands[0].type.shape[1:])[0])
                return self._new(PairedLinear(op.features), value, self._narrow(value.operands[0]), weight)
            case LinearInputGradient():
                weight = self._linear_weight(value, op, op.features_in, is_turned=True)
                return self._new(PairedLinear(op.features_in), value, self._narrow(value.operands[0]), weight)
            case LinearWeightGradient():
                return self._by_linear_weight(value, op)
        return None

    def _forward(self, value: Value, op: Conv2d) -> Value | None:
        x, weight = value.operands
        inputs = static(x.type.shape[3:])[0]
        plain = replace(op, block=0, bits=24)
        if not can_pair(plain, inputs):
            return None
        pairs = self._once(PairWeight(replace(op, bits=24), inputs), value, self._exact(weight))
        return self._new(PairedConv2d(plain), value, self._narrow(x), pairs)

    def _by_image(self, value: Value, op: Conv2dInputGradient) -> Value | None:
        upstream, weight = value.operands
        found = phases(op)
        if found is None:
            return None
        made = []
        for phase in found:
            pairs = PairWeight(_convolution(op), op.input_size[2], True, phase.first, phase.step)
            weights = self._once(pairs, value, self._exact(weight))
            made.append(self._new(PairedConv2d(phase.of), value, self._narrow(upstream), weights))
        if op.stride == (1, 1):
            return made[0]
        return apply(MergePhases(replace(op, block=0, bits=24)), *made, span=value.span, label=value.label)

    def _by_weight(self, value: Value, op: Conv2dWeightGradient) -> Value | None:
        x, upstream = value.operands
        if op.groups > 1 and op.channels // op.groups % CHANNELS:
            return None
        grid = Grid(_convolution(op), *static(x.type.shape[1:]))
        planes = self._once(Planes(grid), value, self._narrow(x))
        pairs = self._once(PairPixels(grid), value, self._narrow(upstream))
        return self._new(PairedWeightGradient(grid), value, planes, pairs)

    def _by_linear_weight(self, value: Value, op: LinearWeightGradient) -> Value:
        """The samples are the pixels of an image of one row."""
        x, upstream = (self._narrow(o) for o in value.operands)
        count, width = static(x.type.shape)
        grid = Grid(_as_convolution(op), 1, count, width)
        planes = self._once(Planes(grid), value, reshape(x, (1, 1, count, width)))
        pairs = self._once(PairPixels(grid), value, reshape(upstream, (1, 1, count, op.features)))
        return self._new(PairedWeightGradient(grid, is_linear=True), value, planes, pairs)

    def _linear_weight(self, value: Value, op: LinearOp, width: int, *, is_turned: bool = False) -> Value:
        weight = self._exact(value.operands[1])
        blocks, _, lanes = static(weight.type.shape)
        return self._once(
            PairWeight(_as_convolution(op), width, is_turned), value, reshape(weight, (blocks, 1, 1, width, lanes))
        )

    def _exact(self, rounded: Value) -> Value:
        """What was rounded."""
        return self.memo[rounded.operands[0]]

    def _narrow(self, rounded: Value) -> Value:
        """What was rounded, in 16 bits."""
        return self.known.setdefault(rounded, cast(self._exact(rounded), DType.BFLOAT16))

    def _once(self, op: PairWeight | Planes | PairPixels, value: Value, operand: Value) -> Value:
        """An op on an operand, the same for all products that ask for it."""
        return self.known.setdefault((op, operand), apply(op, operand, span=value.span, label=value.label))

    def _new(self, op: PairedConv2d | PairedLinear | PairedWeightGradient, value: Value, *operands: Value) -> Value:
        return apply(op, *operands, span=value.span, label=value.label)


def _convolution(op: Convolution) -> Conv2d:
    return Conv2d(**{**op.attributes(), "bits": 24})


def _as_convolution(op: LinearOp) -> Conv2d:
    """The linear layer as a convolution of pixels."""
    return Conv2d(op.features, (1, 1), block=op.block)
