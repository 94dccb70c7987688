"""Gradient descent, with momentum in its three forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from dlc.compiler.ir import Value
from dlc.compiler.layers.base import ArgumentError
from dlc.compiler.ops.elementwise import add, multiply, subtract
from dlc.compiler.optimizers.base import Optimizer, OptimizerScalars, require_rate


@dataclass(frozen=True)
class Sgd(Optimizer):
    """`sgd(lr=0.01, momentum=0, nesterov=false, form=torch)`: full-batch, mini-batch or stochastic by the batch size.

    Without momentum θ -= r g, r the rate. With momentum m (Polyak 1964), `form` names the velocity v, which starts at 0:

    - `torch`: v = m v + g; θ -= r v (Sutskever et al. 2013 as torch writes it);
    - `lecture`: v = m v + r g; θ -= v (Caffe too; differs from torch when the rate changes);
    - `average`: v = m v + (1-m) g; θ -= r v (CNTK: the rate does not grow with m).

    `nesterov` (Nesterov 1983) steps along g + m v (`torch`), r g + m v (`lecture`), (1-m) g + m v (`average`) in place of v.
    The lecture takes the gradient at θ - m v; this is the same with the parameters kept at that look-ahead point.
    """

    keyword: ClassVar[str] = "sgd"
    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    form: Literal["torch", "lecture", "average"] = "torch"

    def __post_init__(self) -> None:
        require_rate(self.lr)
        if not 0 <= self.momentum < 1:
            raise ArgumentError("momentum", f"must be at least 0 and below 1, not {self.momentum}")
        if self.nesterov and self.momentum == 0:
            raise ArgumentError("nesterov", "needs a momentum above 0")

    def state(self) -> Mapping[str, float]:
        return {"momentum": 0.0} if self.momentum else {}

    def update(
        self, parameter: Value, gradient: Value, state: Mapping[str, Value], scalars: OptimizerScalars
    ) -> tuple[Value, Mapping[str, Value]]:
        if not self.momentum:
            return subtract(parameter, multiply(scalars.rate, gradient)), {}
        if self.form == "lecture":
            gradient = multiply(scalars.rate, gradient)
        elif self.form == "average":
            gradient = multiply(gradient, 1.0 - self.momentum)
        velocity = add(multiply(state["momentum"], self.momentum), gradient)
        move = add(gradient, multiply(velocity, self.momentum)) if self.nesterov else velocity
        if self.form != "lecture":
            move = multiply(scalars.rate, move)
        return subtract(parameter, move), {"momentum": velocity}
