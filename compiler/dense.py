"""A trained network as a fully convolutional one, for dense evaluation of images larger than those that it was trained on.

Simonyan and Zisserman 2015, section 3.2, after Sermanet et al. 2014: the linear layer behind a flattening becomes a convolution
whose kernel is the image that was flattened, later linear layers become 1x1 convolutions, and the map of class scores that
comes out of a larger image is averaged over its places. The weights are the same arrays under other shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dlc.compiler.errors import DlcError
from dlc.compiler.ir import ShapeError
from dlc.compiler.layers.activation import Activation
from dlc.compiler.layers.affine import Affine
from dlc.compiler.layers.arithmetic import Add, Multiply
from dlc.compiler.layers.base import FeatureShape, Layer
from dlc.compiler.layers.convolution import Conv
from dlc.compiler.layers.dropout import Dropout
from dlc.compiler.layers.linear import Linear
from dlc.compiler.layers.normalization import BatchNorm
from dlc.compiler.layers.pooling import AdaptiveAvgPool, GlobalAvgPool
from dlc.compiler.layers.shape import Concat, Flatten
from dlc.compiler.layers.softmax import LogSoftmax, Softmax
from dlc.compiler.network import LayerCall, Network, NetworkInput, Tensor, call_layer
from dlc.compiler.sizes import Size, require_unmeasured, show_size, sizes_of
from dlc.runtime.deferred import np

ELEMENTWISE = (Activation, Dropout, Add, Multiply)
"""What works on each number by itself, or, with weights, on each channel."""
CHANNELWISE = (BatchNorm, Affine, Concat)
"""What works on each channel by itself, or moves whole channels."""


@dataclass(frozen=True)
class Dense:
    """The fully convolutional `network`: its outputs have the shapes that they had, its weights the names."""

    network: Network

    def weights(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Canonical weights of the network as trained, in the shapes that this one has: [O, C*H*W] → [O, C, H, W]."""
        shapes = {name: spec.shape for name, spec in self.network.parameter_specs().items()}
        return {name: a.reshape(shapes[name]) if name in shapes else a for name, a in weights.items()}


def fully_convolutional(network: Network, size: Size) -> Dense:
    """The inference form for an image of `size`, every place of whose last map of scores counts.

    Scores are averaged before a softmax, if the network has one. An adaptive pool that changed nothing in training is left
    out, so that maps keep their size; networks that end in a pool over the whole image stay as they are. Raises DlcError
    where the network takes no image, or several (E0860), where the spec computed with the image's size (E0861), where a layer
    does not take what it would get (E0862), and where a layer cannot be used at every place of an image (E0867).
    """
    if len(network.inputs) != 1 or not sizes_of(network):
        raise DlcError.of("E0860", f"{network.name} does not take one image: there is no size to choose")
    (image,) = network.inputs
    if size != image.shape[1:]:
        require_unmeasured(network, show_size(size))
    return Dense(_Rewriting(network, size).made())


@dataclass(frozen=True)
class _Place:
    """What stands for a tensor of the trained network. Where features [F] have become a map, `window` is the shape
    [C, H, W] whose flattening they were at one place of it; of images, and of features that are features still, None."""

    tensor: Tensor
    window: FeatureShape | None = None


class _Rewriting:
    """One network going through its calls in order."""

    def __init__(self, network: Network, size: Size) -> None:
        self._network, self._size = network, size
        (image,) = network.inputs
        self._input = replace(image, shape=(image.shape[0], *size))
        self._start = _Place(Tensor(self._input.shape, self._input, image.span))
        self._places: dict[int, _Place] = {}
        self._calls: list[LayerCall] = []
        self._shapes: dict[str, tuple[int, ...]] = {}

    def made(self) -> Network:
        for call in self._network.inference_calls():
            try:
                self._places[id(call.output)] = self._rewritten(call)
            except ShapeError as error:
                raise DlcError.of(
                    "E0862",
                    f"{self._network.name} does not take images of {show_size(self._size)}: "
                    f"`{call.name}` ({call.layer.keyword}): {error}",
                    span=call.span,
                ) from error
        outputs = []
        for output in self._network.outputs:
            if not output.training_only:
                outputs.append(replace(output, tensor=self._averaged(self._place(output.tensor), output.tensor)))
        return replace(self._network, inputs=(self._input,), calls=tuple(self._calls), outputs=tuple(outputs))

    def _place(self, tensor: Tensor) -> _Place:
        return self._start if isinstance(tensor.producer, NetworkInput) else self._places[id(tensor)]

    def _rewritten(self, call: LayerCall) -> _Place:
        operands = [self._place(t) for t in call.inputs]
        first, layer = operands[0], call.layer
        if isinstance(layer, AdaptiveAvgPool) and call.inputs[0].shape == call.output.shape:
            return first
        if isinstance(layer, Flatten) and first.window is not None:
            return first
        if isinstance(layer, Flatten) and len(first.tensor.shape) == 3:
            return _Place(first.tensor, call.inputs[0].shape)
        if all(o.window is None for o in operands):
            return _Place(self._called(call, layer, tuple(o.tensor for o in operands)))
        if isinstance(layer, Softmax | LogSoftmax):
            return _Place(self._called(call, layer, (self._averaged(first, call.inputs[0]),)))
        if isinstance(layer, Linear) and first.window is not None:
            _, height, width = first.window
            convolution = Conv(layer.features, (height, width), bias=layer.bias)
            return _Place(self._called(call, convolution, (first.tensor,)), (layer.features, 1, 1))
        window = self._common_window(call, operands)
        return _Place(self._called(call, layer, tuple(o.tensor for o in operands)), window)

    def _common_window(self, call: LayerCall, operands: list[_Place]) -> FeatureShape:
        """The window behind a layer that works on each number or channel alone."""
        windows = {o.window for o in operands}
        single = all(w is not None and w[1:] == (1, 1) for w in windows)
        if single and isinstance(call.layer, ELEMENTWISE + CHANNELWISE):
            return (call.output.shape[0], 1, 1)
        (window, *others) = windows
        if window is None or others or not isinstance(call.layer, ELEMENTWISE) or call.parameters:
            raise self._fault(call)
        return window

    def _averaged(self, place: _Place, tensor: Tensor) -> Tensor:
        """Features again: the mean over the places of their map."""
        if place.window is None:
            return place.tensor
        producer = tensor.producer
        assert isinstance(producer, LayerCall), "an input's features have no map"
        if place.window[1:] != (1, 1):
            raise self._fault(producer)
        call = call_layer(f"{producer.name}.mean", GlobalAvgPool(), (place.tensor,), {}, producer.span, producer.chain)
        self._calls.append(call)
        return call.output

    def _called(self, call: LayerCall, layer: Layer, operands: tuple[Tensor, ...]) -> Tensor:
        made = call_layer(call.name, layer, operands, call.weights, call.span, call.chain)
        for key, spec in made.parameters.items():
            had = call.parameters[key].shape
            same = spec.shape == had or (isinstance(layer, Conv) and isinstance(call.layer, Linear))
            if not same or self._shapes.setdefault(call.weights[key], spec.shape) != spec.shape:
                raise self._fault(call)
        self._calls.append(made)
        return made.output

    def _fault(self, call: LayerCall) -> DlcError:
        return DlcError.of(
            "E0867",
            f"{self._network.name} cannot be evaluated densely: `{call.name}` ({call.layer.keyword}) "
            "cannot be used at every place of an image",
            span=call.span,
            help="behind flatten there may be linear layers, activations, dropout, batch norm, and a softmax at the end",
        )
