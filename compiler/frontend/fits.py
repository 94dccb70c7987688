"""Whether a recipe's data and its network are for one another, as far as that is known before anything is read."""

from __future__ import annotations

from dlc.compiler.dense import fully_convolutional
from dlc.compiler.errors import DlcError
from dlc.compiler.frontend.evaluator import Evaluator
from dlc.compiler.frontend.suggestions import listing
from dlc.compiler.frontend.values import show_shape
from dlc.compiler.network import Network
from dlc.compiler.recipe import DataRecipe, LossTerm
from dlc.compiler.source import Span
from dlc.runtime.errors import RuntimeFault


def check_fit(evaluator: Evaluator, span: Span, network: Network, data: DataRecipe, losses: list[LossTerm]) -> None:
    """Reports (E0815) images of another shape than the network takes, after resizing and augmentation, numbers of means that
    are not those of the channels, and outputs with fewer scores than there are classes."""
    if len(network.inputs) != 1:
        names = listing(i.name for i in network.inputs)
        evaluator.error("E0815", f"a recipe feeds one input, {network.name} has {names}", span)
        return
    shape = network.inputs[0].shape
    takes = f"{network.name} takes {show_shape(shape)}"
    if len(shape) != 3:
        help = "take images, `input image: [channels, height, width]`, and flatten them: `image -> flatten`"
        evaluator.error("E0815", f"data `{data.name}` has images, but {takes}", span, help=help)
        return
    facts = data.source.facts()
    if facts.channels not in (None, shape[0]):
        evaluator.error(
            "E0815", f"data `{data.name}` has images of {_channels(facts.channels)}, but {takes}", span,
            help=f"let the network's input be `[{facts.channels}, {shape[1]}, {shape[2]}]`",
        )  # fmt: skip
    elif isinstance(data.normalize, tuple) and len(data.normalize[0]) not in (1, shape[0]):
        message = f"data `{data.name}` has {len(data.normalize[0])} means, but {network.name} takes {shape[0]} channels"
        evaluator.error("E0815", message, span)
    _check_size(evaluator, span, (shape[1], shape[2]), takes, data, facts.size)
    _check_dense(evaluator, span, network, data, facts.size)
    for term in losses:
        scores = next(o.tensor.shape[0] for o in network.outputs if o.name == term.output)
        if facts.classes is not None and scores < facts.classes:
            evaluator.error(
                "E0815", f"output `{term.output}` has {scores} scores, but data `{data.name}` has {facts.classes} classes",
                span, help=f"give the model {facts.classes} classes",
            )  # fmt: skip


def _check_size(
    evaluator: Evaluator,
    span: Span,
    wanted: tuple[int, int],
    takes: str,
    data: DataRecipe,
    known: tuple[int, int] | None,
) -> None:
    start = data.resize or known
    if start is None:
        return
    size = start
    try:
        for transform in data.augment:
            size = transform.target(size) if hasattr(transform, "target") else size  # only moves of pixels change it
    except RuntimeFault as fault:
        evaluator.error("E0815", f"data `{data.name}`: {fault.message}", span, help=fault.help)
        return
    if size == wanted:
        return
    height, width = size
    if size != start:
        message = f"the augmentation of data `{data.name}` makes images of {height}x{width}, but {takes}"
        evaluator.error("E0815", message, span, help=f"crop to {wanted[0]}" if wanted[0] == wanted[1] else "")
        return
    what = "is resized to" if data.resize is not None else "has images of"
    number = str(wanted[0]) if wanted[0] == wanted[1] else f"({wanted[0]}, {wanted[1]})"
    message = f"data `{data.name}` {what} {height}x{width}, but {takes}"
    evaluator.error("E0815", message, span, help=f"write `resize {number}` in the data section")


def _check_dense(
    evaluator: Evaluator, span: Span, network: Network, data: DataRecipe, known: tuple[int, int] | None
) -> None:
    """Reports what keeps the network from being evaluated at every place of images of the size that is given."""
    if data.dense is None:
        return
    height, width = network.inputs[0].shape[1:]
    size = data.dense.pair if data.dense.size is not None else data.resize or known
    if size is None:
        return
    if size[0] < height or size[1] < width or size == (height, width):
        message = (
            f"`dense` needs images larger than the {height}x{width} that {network.name} takes, not {size[0]}x{size[1]}"
        )
        help = (
            f"write `evaluate dense(size={max(height, width) * 8 // 7})`, or a larger `resize` and `crop` in `augment`"
        )
        evaluator.error("E0815", message, span, help=help)
        return
    try:
        fully_convolutional(network, size)
    except DlcError as error:
        for found in error.diagnostics:
            evaluator.error(found.code, found.message, found.span or span, help=found.help)


def _channels(count: int) -> str:
    return f"{count} channel{'s' if count != 1 else ''}"
