"""Packing: weights of convolutions and linear layers get the form that the kernels read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dlc.compiler.ir import Fusion, Graph, Parameter, TensorType, Value
from dlc.compiler.ops.convolution import Conv2d
from dlc.compiler.ops.linear import Linear
from dlc.compiler.ops.shape import Flatten, reshape, transpose
from dlc.runtime.layout import Layout


def weight_block(lanes: int, channels: int) -> int:
    """Output channels that lie side by side in packed weights: one to four vectors, with the least surplus.

    Two vectors suit most (each input that is read then feeds two products); four where vectors are short.
    """
    if channels <= lanes:
        return lanes
    # relative time for one product: short blocks need more loads for each, long ones leave few columns
    time = {1: 1.25, 2: 1.1, 3: 1.02, 4: 1.0} if lanes == 4 else {1: 1.12, 2: 1.0, 3: 1.02, 4: 1.01}
    return min(
        (n * lanes for n in (2, 4, 3, 1)),
        key=lambda block: (-(-channels // block) * block * time[block // lanes], -block),
    )


@dataclass(frozen=True)
class PackWeights:
    """Weights [O, …] become [ceil(O / block), …, block], by the vector width: `lanes` float32 numbers.

    `block` is the number of output channels that lie side by side, 0: as many as suit the layer.
    With one lane (GPUs) blocks are single channels: [O, kh, kw, I, 1], so that channels lie side by side as in images.

    A linear layer behind a flattening gets its columns in the order in which the image lies in memory; the flattening
    then moves nothing. Runs before differentiation: gradients and optimizer state are born packed. A weight is packed if
    nothing else reads it. The choice depends on the layer alone, so that graphs of one network share their weights.
    """

    lanes: int
    block: int = 0

    def __call__(self, graph: Graph) -> Graph:
        """The graph over packed parameters."""
        replaced: dict[Value, Value] = {}
        for weight in graph.parameters:
            users = graph.users.get(weight, ())
            if not isinstance(weight.op, Parameter) or weight.op.layout is not None or not users:
                continue
            kinds = {_kind(u) if u.operands[1:] == (weight,) and u.operands[0] is not weight else None for u in users}
            if len(kinds) != 1 or None in kinds:
                continue
            layout = self._layout(users[0])
            if layout is None:
                continue
            packed = Parameter(weight.op.key, TensorType(layout.packed, weight.type.dtype), weight.op.trainable, layout)
            packed_value = Value(packed, (), packed.type, weight.span, weight.label)
            block = layout.packed[-1] if len(layout.packed) > len(layout.canonical_shape) else 0
            replaced[weight] = packed_value
            for user in users:
                replaced[user] = _over(user, packed_value, block)
        return _replace(graph, replaced)

    def _layout(self, user: Value) -> Layout | None:
        op = user.op
        if isinstance(op, Conv2d):
            return _convolution_layout(op, user.operands[1].type, self.lanes, self.block)
        assert isinstance(op, Linear)
        return _linear_layout(op, user.operands, self.lanes, self.block)


def _kind(user: Value) -> object:
    """What users of one weight must have in common: the op, and the image that a linear layer's operand flattens."""
    match user.op:
        case Conv2d() if user.op.block == 0:
            return user.op.channels, user.op.groups
        case Linear() if user.op.block == 0:
            return user.op, flattened_image(user.operands[0])
    return None


def flattened_image(value: Value) -> tuple[int, ...]:
    """Height, width and channels of the image that a value flattens; () where it does not.

    Element-wise ops between (dropout, in training only) do not count: every graph must get the same layout.
    """
    while value.op.fusion is Fusion.ELEMENTWISE:
        value = max(
            (o for o in value.operands if o.type.shape == value.type.shape), key=_flattens, default=value.operands[0]
        )
    if not isinstance(value.op, Flatten):
        return ()
    return _sizes(value.operands[0].type.shape[1:])


def _flattens(value: Value) -> bool:
    if value.op.fusion is Fusion.ELEMENTWISE:
        return any(_flattens(o) for o in value.operands if o.type.shape == value.type.shape)
    return isinstance(value.op, Flatten)


def _convolution_layout(op: Conv2d, weight: TensorType, lanes: int, block: int) -> Layout | None:
    channels, inputs, height, width = _sizes(weight.shape)
    if lanes == 1 and height * width == 1:
        return None
    block = block or (weight_block(lanes, channels // op.groups) if lanes > 1 else 1)
    if op.groups > 1 and (channels // op.groups) % block:
        return None
    blocks = -(-channels // block)
    return Layout(
        (channels, inputs, height, width),
        (channels, inputs, height, width),
        (blocks * block, inputs, height, width),
        (blocks, block, inputs, height, width),
        (0, 3, 4, 2, 1),
        (blocks, height, width, inputs, block),
    )


def _linear_layout(op: Linear, operands: Sequence[Value], lanes: int, block: int) -> Layout | None:
    features, width = _sizes(operands[1].type.shape)
    image = flattened_image(operands[0])
    if image:
        height, columns, channels = image
        view: tuple[int, ...] = (features, channels, height, columns)
        turned: tuple[int, ...] = (2, 3, 1)  # the view's axes in the order of memory
    else:
        view, turned = (features, width), (1,)
    if lanes == 1:
        return Layout((features, width), view, view, view, (0, *turned), (features, width)) if image else None
    block = block or weight_block(lanes, features)
    blocks = -(-features // block)
    order = (0, *(a + 1 for a in turned), 1)
    rest = view[1:]
    return Layout(
        (features, width), view, (blocks * block, *rest), (blocks, block, *rest), order, (blocks, width, block)
    )


def _over(user: Value, weight: Value, block: int) -> Value:
    """The convolution or linear layer over its packed weight."""
    assert isinstance(user.op, Conv2d | Linear)
    x = behind_flatten(user.operands[0]) if isinstance(user.op, Linear) else user.operands[0]
    return Value(replace(user.op, block=block), (x, weight), user.type, user.span, user.label)


def behind_flatten(x: Value) -> Value:
    """What a linear layer reads whose columns are in the order of the image that it flattens; x where it flattens none."""
    image = flattened_image(x)
    if not image:
        return x
    if isinstance(x.op, Flatten):
        return reshape(x.operands[0], x.type.shape)
    height, width, channels = image
    return reshape(transpose(reshape(x, (x.type.shape[0], channels, height, width)), (0, 2, 3, 1)), x.type.shape)


def _replace(graph: Graph, replaced: dict[Value, Value]) -> Graph:
    """The graph with users and weights exchanged at once, the new users' own operands rebuilt too."""
    memo: dict[Value, Value] = {}

    def operand(value: Value) -> Value:
        if value not in memo:  # a view made here, over an operand of the graph
            memo[value] = Value(value.op, tuple(map(operand, value.operands)), value.type, value.span, value.label)
        return memo[value]

    for value in graph.values:
        new = replaced.get(value, value)
        if not new.operands:
            memo[value] = memo[new] = new
            continue
        operands = tuple(map(operand, new.operands))
        same = all(a is b for a, b in zip(operands, new.operands, strict=True))
        memo[value] = new if same else Value(new.op, operands, new.type, new.span, new.label)
    updates = {memo[p]: memo[v] for p, v in graph.updates.items()}
    return Graph(
        graph.name, tuple(memo[v] for v in graph.inputs), {k: memo[v] for k, v in graph.outputs.items()}, updates
    )


def _sizes(shape: Sequence[object]) -> tuple[int, ...]:
    return tuple(int(d) for d in shape)  # type: ignore[call-overload]  # weights have no batch
