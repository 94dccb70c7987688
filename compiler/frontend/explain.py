"""Shape errors: which shapes, who made them, where from, and what would mend it where that can be derived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlc.compiler.frontend.calls import where
from dlc.compiler.frontend.values import IdentityStage, LayerStage, Poison, ResidualStage, show_shape
from dlc.compiler.ir import ShapeError
from dlc.compiler.network import LayerCall, NetworkInput, Tensor
from dlc.compiler.source import Span

if TYPE_CHECKING:
    from dlc.compiler.frontend.evaluator import Evaluator


def explain_shape(evaluator: Evaluator, stage: LayerStage, inputs: tuple[Tensor, ...], error: ShapeError) -> Poison:
    """Reports a layer's shape rule that does not hold."""
    message, _, help = str(error).partition("; ")
    if len(inputs) > 1:
        notes = [
            f"{_ordinal(i)} is {show_shape(t.shape)}, {made_by(t, stage.span)}" for i, t in enumerate(inputs[:8], 1)
        ]
        if not help and len({t.shape[0] for t in inputs}) > 1 and len({t.shape[1:] for t in inputs}) == 1:
            help = "`concat` joins tensors of different channels" if stage.layer.keyword == "add" else ""
        if not help and len({len(t.shape) for t in inputs}) == 1 and len({t.shape[1:] for t in inputs}) > 1:
            help = "the branches need the same stride and padding: `pad=same` keeps height and width"
        return evaluator.error("E0301", message, stage.span, "these do not go together", notes=notes, help=help)
    notes = [f"the input is {show_shape(inputs[0].shape)}, {made_by(inputs[0], stage.span)}"]
    return evaluator.error(
        "E0302",
        message,
        stage.span,
        f"gets {show_shape(inputs[0].shape)}",
        notes=notes,
        help=help or _mend(stage, inputs[0]),
    )


def explain_join(evaluator: Evaluator, stage: ResidualStage, value: Any, body: Tensor, shortcut: Tensor) -> Poison:
    """Reports a `residual` whose body and shortcut differ."""
    here = stage.span
    if isinstance(stage.shortcut, IdentityStage):
        other = "shortcut is `identity`"
    else:
        other = f"shortcut {made_by(shortcut, here)}"
    return evaluator.error(
        "E0301",
        f"cannot add {show_shape(shortcut.shape)} and {show_shape(body.shape)}",
        here,
        f"body is {show_shape(body.shape)}, the shortcut is {show_shape(shortcut.shape)}",
        notes=[f"body {made_by(body, here)}, {other}"],
        help=_shortcut(value, body, shortcut),
    )


def _shortcut(value: Any, body: Tensor, shortcut: Tensor) -> str:
    """A convolution that turns the residual's input into the body's shape, where a stride does it."""
    if not isinstance(value, Tensor) or len(value.shape) != 3 or len(body.shape) != 3:
        return "body and shortcut must have the same shape"
    channels, *size = body.shape
    strides = {-(-a // b) for a, b in zip(value.shape[1:], size, strict=True)}
    stride = min(strides)
    if len(strides) == 1 and all(-(-a // stride) == b for a, b in zip(value.shape[1:], size, strict=True)):
        return f"give the shortcut the same stride and channels: conv({channels}, 1{f', stride={stride}' if stride > 1 else ''})"
    if all(0 < a - b < 12 for a, b in zip(value.shape[1:], size, strict=True)):
        return "the body loses height and width at the borders: `pad=same` keeps them"
    return "body and shortcut must have the same shape"


def _mend(stage: LayerStage, given: Tensor) -> str:
    """What would make a single input fit."""
    layer = stage.layer
    kernel = getattr(layer, "kernel", None)
    if kernel is None:
        return ""
    if len(given.shape) == 1:
        return "convolutions and pools stand before `flatten`"
    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    if all(k <= n for k, n in zip(sides, given.shape[1:], strict=True)):
        return ""
    if isinstance(given.producer, NetworkInput):
        return "the image is smaller than the window"
    if layer.keyword.endswith("pool"):
        return "use a smaller window, or leave out a pool before it"
    return "`pad=same` keeps height and width; or leave out a pool before it"


def made_by(tensor: Tensor, place: Span) -> str:
    """Who gave a tensor its shape: "made by `conv` at line 10 (stride 2)". Layers that keep shapes are passed over."""
    producer = tensor.producer
    while isinstance(producer, LayerCall) and len(producer.inputs) == 1 and producer.inputs[0].shape == tensor.shape:
        producer = producer.inputs[0].producer
    if isinstance(producer, NetworkInput):
        return f"the input `{producer.name}` at {where(producer.span, place)}"
    if not isinstance(producer, LayerCall):
        return "given"
    stride = getattr(producer.layer, "stride", None)
    extra = f" (stride {stride})" if stride not in (None, 1, (1, 1)) else ""
    return f"made by {producer.layer.keyword} at {where(producer.span, place)}{extra}"


def _ordinal(number: int) -> str:
    return {1: "the first", 2: "the second", 3: "the third"}.get(number, f"number {number}")
