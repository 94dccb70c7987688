"""Activations: functions of one element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from dlc.compiler.initializers.constant import Constant
from dlc.compiler.ir import Value
from dlc.compiler.layers.base import ArgumentError, BuildContext, FeatureShape, Layer, ParameterSpec
from dlc.compiler.ops import composite
from dlc.compiler.ops.elementwise import add, multiply
from dlc.compiler.ops.functions import clip, relu, sigmoid, tanh


@dataclass(frozen=True)
class Activation(Layer):
    """A layer whose output has the input's shape."""

    keyword: ClassVar[str]

    def shape(self, *inputs: FeatureShape) -> FeatureShape:
        return inputs[0]


@dataclass(frozen=True)
class Sigmoid(Activation):
    """`sigmoid`: 1 / (1 + exp(-x))."""

    keyword: ClassVar[str] = "sigmoid"

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return sigmoid(inputs[0])


@dataclass(frozen=True)
class Tanh(Activation):
    """`tanh`: the hyperbolic tangent."""

    keyword: ClassVar[str] = "tanh"

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return tanh(inputs[0])


@dataclass(frozen=True)
class ScaledTanh(Activation):
    """`scaled_tanh(amplitude=1.7159, slope=2/3)`: amplitude * tanh(slope * x), LeCun et al. 1998, appendix A."""

    keyword: ClassVar[str] = "scaled_tanh"
    amplitude: float = 1.7159
    slope: float = 2.0 / 3.0

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return composite.scaled_tanh(inputs[0], self.amplitude, self.slope)


@dataclass(frozen=True)
class Relu(Activation):
    """`relu`: max(x, 0)."""

    keyword: ClassVar[str] = "relu"

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return relu(inputs[0])


@dataclass(frozen=True)
class LeakyRelu(Activation):
    """`leaky_relu(slope=0.01)`: x where x > 0, slope * x elsewhere."""

    keyword: ClassVar[str] = "leaky_relu"
    slope: float = 0.01

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return composite.leaky_relu(inputs[0], self.slope)


@dataclass(frozen=True)
class Prelu(Activation):
    """`prelu(init=0.25, shared=false)`: leaky relu with a trained slope, He et al. 2015: one per channel.

    `shared=true` has one slope for all channels (torch's default). Weight [C] or [1].
    """

    keyword: ClassVar[str] = "prelu"
    init: float = 0.25
    shared: bool = False

    def parameters(self, *inputs: FeatureShape) -> Mapping[str, ParameterSpec]:
        return {"weight": ParameterSpec((1 if self.shared else inputs[0][0],), Constant(self.init))}

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return composite.prelu(inputs[0], context.parameters["weight"])


@dataclass(frozen=True)
class Elu(Activation):
    """`elu(alpha=1)`: x where x > 0, alpha * (exp(x) - 1) elsewhere, Clevert et al. 2016."""

    keyword: ClassVar[str] = "elu"
    alpha: float = 1.0

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return composite.elu(inputs[0], self.alpha)


@dataclass(frozen=True)
class Selu(Activation):
    """`selu`: 1.0507 * elu(x, alpha=1.6733), Klambauer et al. 2017."""

    keyword: ClassVar[str] = "selu"

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return composite.selu(inputs[0])


@dataclass(frozen=True)
class Gelu(Activation):
    """`gelu(approximate=none)`: x * Phi(x), Hendrycks and Gimpel 2016; `approximate=tanh` is the paper's tanh formula."""

    keyword: ClassVar[str] = "gelu"
    approximate: Literal["none", "tanh"] = "none"

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return composite.gelu_tanh(inputs[0]) if self.approximate == "tanh" else composite.gelu(inputs[0])


@dataclass(frozen=True)
class Silu(Activation):
    """`silu`: x * sigmoid(x), also called swish."""

    keyword: ClassVar[str] = "silu"

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return composite.silu(inputs[0])


@dataclass(frozen=True)
class HardSigmoid(Activation):
    """`hard_sigmoid`: clip(x / 6 + 1/2, 0, 1) (torch's; Keras' slope is 0.2)."""

    keyword: ClassVar[str] = "hard_sigmoid"

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return composite.hard_sigmoid(inputs[0])


@dataclass(frozen=True)
class HardSwish(Activation):
    """`hard_swish`: x * hard_sigmoid(x), Howard et al. 2019."""

    keyword: ClassVar[str] = "hard_swish"

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return composite.hard_swish(inputs[0])


@dataclass(frozen=True)
class Softplus(Activation):
    """`softplus`: log(1 + exp(x)), computed without overflow."""

    keyword: ClassVar[str] = "softplus"

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return composite.softplus(inputs[0])


@dataclass(frozen=True)
class Clip(Activation):
    """`clip(low, high)`: min(max(x, low), high); `clip(0, 6)` is relu6."""

    keyword: ClassVar[str] = "clip"
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ArgumentError("high", f"must be above low, {self.low}, not {self.high}")

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return clip(inputs[0], self.low, self.high)


@dataclass(frozen=True)
class Scale(Activation):
    """`scale(by)`: by * x, with a fixed number."""

    keyword: ClassVar[str] = "scale"
    by: float

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return multiply(inputs[0], self.by)


@dataclass(frozen=True)
class Offset(Activation):
    """`offset(by)`: x + by, with a fixed number."""

    keyword: ClassVar[str] = "offset"
    by: float

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return add(inputs[0], self.by)


@dataclass(frozen=True)
class Identity(Activation):
    """`identity`: the input itself."""

    keyword: ClassVar[str] = "identity"

    def build(self, context: BuildContext, *inputs: Value) -> Value:
        return inputs[0]
