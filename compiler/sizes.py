"""A network for images of another size: the same layers over the same weights, with every shape worked out anew."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.compiler.errors import DlcError
from dlc.compiler.network import Network, UnfitCall, inference_form

Size = tuple[int, int]
"""Height and width."""


def show_size(size: Size) -> str:
    """As the command line writes it: 224x320."""
    return f"{size[0]}x{size[1]}"


def sizes_of(network: Network) -> tuple[Size, ...]:
    """Height and width of each input that is an image, in order."""
    return tuple((i.shape[1], i.shape[2]) for i in network.inputs if len(i.shape) == 3)


def at_sizes(network: Network, sizes: Sequence[Size]) -> Network:
    """The inference form for images of other sizes: one for each input that is an image, or one for all.

    Raises DlcError where the network takes no images (E0860), where the spec computed with the image's size (E0861), where
    a layer does not take what it would get, as of too small an image (E0862), and where a weight's shape depends on the size
    (E0863), as that of a linear layer behind a flattening.
    """
    trained = sizes_of(network)
    if not trained:
        raise DlcError.of("E0860", f"{network.name} takes no images: there is no size to choose", span=network.span)
    wanted = tuple(sizes) * len(trained) if len(sizes) == 1 else tuple(sizes)
    if len(wanted) != len(trained):
        raise DlcError.of("E0860", f"{network.name} takes {len(trained)} images, not {len(wanted)}", span=network.span)
    if wanted == trained:
        return inference_form(network)
    text = ", ".join(show_size(s) for s in dict.fromkeys(wanted))
    require_unmeasured(network, text)
    images = [i for i in network.inputs if len(i.shape) == 3]
    shapes = {i.name: (i.shape[0], *size) for i, size in zip(images, wanted, strict=True)}
    try:
        made = inference_form(network, shapes=shapes)
    except UnfitCall as error:
        call = error.call
        raise DlcError.of(
            "E0862",
            f"{network.name} does not take images of {text}: `{call.name}` ({call.layer.keyword}): {error}",
            span=call.span,
        ) from error
    _same_weights(network, made, text)
    return made


def require_unmeasured(network: Network, text: str) -> None:
    """Raises DlcError (E0861) where the spec computed with the image's size, which is to be another, `text`."""
    if network.measured:
        raise DlcError.of(
            "E0861",
            f"{network.name} may be another network for images of {text}: the spec reads a height or width at "
            f"{network.measured}",
            span=network.span,
            help="give the model's input that size in the spec, and compile it",
        )


def _same_weights(network: Network, made: Network, text: str) -> None:
    had = network.parameter_specs(training=False)
    for call in made.calls:
        for key, spec in call.parameters.items():
            before = had[call.weights[key]].shape
            if spec.shape != before:
                raise DlcError.of(
                    "E0863",
                    f"{network.name} does not take images of {text}: `{call.name}` ({call.layer.keyword}) fixes their size, "
                    f"its {key} has the shape {list(before)} and would have to have {list(spec.shape)}",
                    span=call.span,
                    help="with an adaptive_avg_pool or a global_avg_pool before it, images of any size fit",
                )
