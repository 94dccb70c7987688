"""Adam, and AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import ClassVar

from dlc.compiler.ir import DType, Value
from dlc.compiler.layers.base import ArgumentError
from dlc.compiler.ops.base import constant
from dlc.compiler.ops.elementwise import add, cast, divide, multiply, subtract
from dlc.compiler.ops.functions import expm1, sqrt
from dlc.compiler.optimizers.base import Optimizer, OptimizerScalars, require_fraction, require_rate


@dataclass(frozen=True)
class Adam(Optimizer):
    """`adam(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, eps_inside_root=false, bias_correction=true)`: Kingma and Ba 2015.

    m = β1 m + (1-β1) g; v = β2 v + (1-β2) g²; θ -= r m̂ / (sqrt(v̂) + ε), with m̂ = m / (1-β1ᵗ), v̂ = v / (1-β2ᵗ), t from 1,
    as the paper and torch. `eps_inside_root`: sqrt(v̂ + ε) (lecture); `bias_correction=false`: m̂ = m, v̂ = v (lecture).
    """

    keyword: ClassVar[str] = "adam"
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    eps_inside_root: bool = False
    bias_correction: bool = True

    def __post_init__(self) -> None:
        require_rate(self.lr)
        require_fraction("beta1", self.beta1)
        require_fraction("beta2", self.beta2)
        if self.eps <= 0:
            raise ArgumentError("eps", f"must be above 0, not {self.eps}")

    def state(self) -> Mapping[str, float]:
        return {"mean": 0.0, "square": 0.0}

    def shared(self, scalars: OptimizerScalars) -> Mapping[str, Value]:
        if not self.bias_correction:
            return {}
        time = add(cast(scalars.step, DType.FLOAT32), 1.0)
        return {"mean": _correction(self.beta1, time), "square": _correction(self.beta2, time)}

    def update(
        self, parameter: Value, gradient: Value, state: Mapping[str, Value], scalars: OptimizerScalars
    ) -> tuple[Value, Mapping[str, Value]]:
        mean = add(multiply(state["mean"], self.beta1), multiply(gradient, 1.0 - self.beta1))
        square = add(multiply(state["square"], self.beta2), multiply(multiply(gradient, gradient), 1.0 - self.beta2))
        size, direction = square, mean
        if self.bias_correction:
            size, direction = multiply(square, scalars.shared["square"]), multiply(mean, scalars.shared["mean"])
        root = sqrt(add(size, self.eps)) if self.eps_inside_root else add(sqrt(size), self.eps)
        moved = subtract(parameter, multiply(scalars.rate, divide(direction, root)))
        return moved, {"mean": mean, "square": square}


def _correction(beta: float, time: Value) -> Value:
    """1 / (1 - βᵗ). In float32 1 - 0.999 would have lost a part in 10⁵; expm1 loses nothing."""
    if beta == 0:
        return constant(1.0)
    return divide(-1.0, expm1(multiply(time, log(beta))))


@dataclass(frozen=True)
class AdamW(Adam):
    """`adamw(lr=1e-3, …, weight_decay=0.01)`: Adam with decoupled decay of all its parameters, Loshchilov and Hutter 2019.

    θ -= r λ θ besides Adam's step, as torch. `regularize decay(λ, except=…)` is the same and can leave parameters out.
    """

    keyword: ClassVar[str] = "adamw"
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_decay < 0:
            raise ArgumentError("weight_decay", f"must not be negative, not {self.weight_decay}")

    def update(
        self, parameter: Value, gradient: Value, state: Mapping[str, Value], scalars: OptimizerScalars
    ) -> tuple[Value, Mapping[str, Value]]:
        decayed = subtract(parameter, multiply(multiply(scalars.rate, self.weight_decay), parameter))
        return super().update(decayed, gradient, state, scalars)
