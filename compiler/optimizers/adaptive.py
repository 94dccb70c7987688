"""AdaGrad, RMSProp and Rprop: a rate of its own for every weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.ir import Value
from dlc.compiler.layers.base import ArgumentError
from dlc.compiler.ops.elementwise import add, divide, greater, less, maximum, minimum, multiply, subtract, where
from dlc.compiler.ops.functions import sign, sqrt
from dlc.compiler.optimizers.base import Optimizer, OptimizerScalars, require_fraction, require_rate


@dataclass(frozen=True)
class AdaGrad(Optimizer):
    """`adagrad(lr=0.01, eps=1e-10, eps_inside_root=false)`: Duchi, Hazan and Singer 2011.

    G += g²; θ -= r g / (sqrt(G) + ε), as torch; `eps_inside_root`: sqrt(G + ε) (lecture).
    """

    keyword: ClassVar[str] = "adagrad"
    lr: float = 0.01
    eps: float = 1e-10
    eps_inside_root: bool = False

    def __post_init__(self) -> None:
        require_rate(self.lr)
        _require_eps(self.eps)

    def state(self) -> Mapping[str, float]:
        return {"square": 0.0}

    def update(
        self, parameter: Value, gradient: Value, state: Mapping[str, Value], scalars: OptimizerScalars
    ) -> tuple[Value, Mapping[str, Value]]:
        total = add(state["square"], multiply(gradient, gradient))
        scaled = divide(gradient, _root(total, self.eps, self.eps_inside_root))
        return subtract(parameter, multiply(scalars.rate, scaled)), {"square": total}


@dataclass(frozen=True)
class RmsProp(Optimizer):
    """`rmsprop(lr=0.01, decay=0.99, eps=1e-8, momentum=0, eps_inside_root=false)`: Hinton, lecture 6e, 2012.

    G = d G + (1-d) g², d the decay; θ -= r g / (sqrt(G) + ε), as torch, whose alpha is `decay` here; `eps_inside_root`: sqrt(G + ε)
    (lecture, TensorFlow). With `momentum` m: v = m v + g / (sqrt(G) + ε); θ -= r v (torch).
    """

    keyword: ClassVar[str] = "rmsprop"
    lr: float = 0.01
    decay: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    eps_inside_root: bool = False

    def __post_init__(self) -> None:
        require_rate(self.lr)
        require_fraction("decay", self.decay)
        require_fraction("momentum", self.momentum)
        _require_eps(self.eps)

    def state(self) -> Mapping[str, float]:
        return {"square": 0.0, "momentum": 0.0} if self.momentum else {"square": 0.0}

    def update(
        self, parameter: Value, gradient: Value, state: Mapping[str, Value], scalars: OptimizerScalars
    ) -> tuple[Value, Mapping[str, Value]]:
        fresh = multiply(multiply(gradient, gradient), 1.0 - self.decay)
        square = add(multiply(state["square"], self.decay), fresh)
        move = divide(gradient, _root(square, self.eps, self.eps_inside_root))
        states = {"square": square}
        if self.momentum:
            move = states["momentum"] = add(multiply(state["momentum"], self.momentum), move)
        return subtract(parameter, multiply(scalars.rate, move)), states


@dataclass(frozen=True)
class Rprop(Optimizer):
    """`rprop(lr=0.01, down=0.5, up=1.2, least=1e-6, most=50)`: Riedmiller and Braun 1993, for full batches; as torch.

    Each weight has a step size, `lr` at first: times `up` where the gradient keeps its sign, times `down` where it turns
    (the gradient then counts as 0 once), held between `least` and `most`. θ -= size * sign(g). Schedules play no part.
    """

    keyword: ClassVar[str] = "rprop"
    lr: float = 0.01
    down: float = 0.5
    up: float = 1.2
    least: float = 1e-6
    most: float = 50.0

    def __post_init__(self) -> None:
        require_rate(self.lr)
        if not 0 < self.down < 1:
            raise ArgumentError("down", f"must be between 0 and 1, not {self.down}")
        if self.up <= 1:
            raise ArgumentError("up", f"must be above 1, not {self.up}")
        if not 0 < self.least < self.most:
            raise ArgumentError("least", f"must be above 0 and below most, {self.most}, not {self.least}")

    def state(self) -> Mapping[str, float]:
        return {"previous": 0.0, "size": self.lr}

    def update(
        self, parameter: Value, gradient: Value, state: Mapping[str, Value], scalars: OptimizerScalars
    ) -> tuple[Value, Mapping[str, Value]]:
        agreement = multiply(gradient, state["previous"])
        factor = where(greater(agreement, 0.0), self.up, where(less(agreement, 0.0), self.down, 1.0))
        size = maximum(minimum(multiply(state["size"], factor), self.most), self.least)
        kept = where(less(agreement, 0.0), 0.0, gradient)
        return subtract(parameter, multiply(size, sign(kept))), {"previous": kept, "size": size}


def _root(square: Value, eps: float, inside: bool) -> Value:
    return sqrt(add(square, eps)) if inside else add(sqrt(square), eps)


def _require_eps(eps: float) -> None:
    if eps <= 0:
        raise ArgumentError("eps", f"must be above 0, not {eps}")
