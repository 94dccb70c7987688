"""Elaborates `regularize`: `l2(5e-4, except=[bias, batch_norm]), l2(1e-3) for fc`; and the patterns behind `for`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dlc.compiler.frontend import ast
from dlc.compiler.frontend.environment import Environment
from dlc.compiler.frontend.evaluator import Evaluator
from dlc.compiler.frontend.sections import chosen, dotted
from dlc.compiler.frontend.suggestions import closest, did_you_mean, listing
from dlc.compiler.layers.base import ArgumentError
from dlc.compiler.network import Network
from dlc.compiler.recipe import Regularizer
from dlc.compiler.selection import matches, weights_of

ROLES = ("bias", "norm", "weight")


@dataclass(frozen=True)
class Rule(ABC):
    """What a word of `regularize` stands for."""

    keyword: ClassVar[str]

    @abstractmethod
    def parts(self) -> tuple[tuple[str, float], ...]:
        """Kinds and rates as the build knows them."""


@dataclass(frozen=True)
class Penalty(Rule):
    """One kind, one rate: `keyword(rate)`."""

    rate: float

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ArgumentError("rate", f"must not be negative, not {self.rate:g}")

    def parts(self) -> tuple[tuple[str, float], ...]:
        """The rule itself."""
        return ((self.keyword, self.rate),)


@dataclass(frozen=True)
class L1(Penalty):
    """`l1(rate)`: rate · sign(w) is added to the gradient."""

    keyword: ClassVar[str] = "l1"


@dataclass(frozen=True)
class L2(Penalty):
    """`l2(rate)`: rate · w is added to the gradient (torch's weight_decay, Caffe's)."""

    keyword: ClassVar[str] = "l2"


@dataclass(frozen=True)
class Decay(Penalty):
    """`decay(rate)`: learning rate · rate · w is taken off the weight, beside the optimizer (Loshchilov and Hutter 2019)."""

    keyword: ClassVar[str] = "decay"


@dataclass(frozen=True)
class ElasticNet(Rule):
    """`elastic_net(l1, l2)`: both penalties (Zou and Hastie 2005)."""

    keyword: ClassVar[str] = "elastic_net"
    l1: float
    l2: float

    def __post_init__(self) -> None:
        for field, rate in (("l1", self.l1), ("l2", self.l2)):
            if rate < 0:
                raise ArgumentError(field, f"must not be negative, not {rate:g}")

    def parts(self) -> tuple[tuple[str, float], ...]:
        """l1 and l2."""
        return (("l1", self.l1), ("l2", self.l2))


@dataclass(frozen=True)
class Clip(Rule):
    """What the two ways to clip gradients share: `most` is above 0."""

    most: float

    def __post_init__(self) -> None:
        if self.most <= 0:
            raise ArgumentError("most", f"must be above 0, not {self.most:g}")

    def parts(self) -> tuple[tuple[str, float], ...]:
        """The rule itself."""
        return ((self.keyword, self.most),)


@dataclass(frozen=True)
class ClipNorm(Clip):
    """`clip_norm(most)`: all gradients are scaled so that their common norm is at most this (Pascanu et al. 2013)."""

    keyword: ClassVar[str] = "clip_norm"


@dataclass(frozen=True)
class ClipValue(Clip):
    """`clip_value(most)`: each element of a gradient is held within this, either sign."""

    keyword: ClassVar[str] = "clip_value"


CATALOG: dict[str, type[Rule]] = {rule.keyword: rule for rule in (L1, L2, Decay, ElasticNet, ClipNorm, ClipValue)}
"""The rules by name."""


def elaborate_regularizers(
    evaluator: Evaluator, items: Sequence[ast.Item], network: Network | None
) -> tuple[Regularizer, ...]:
    """The rules of a `regularize` line."""
    found: list[Regularizer] = []
    for item in items:
        if item.name is not None:
            evaluator.error("E0805", "`regularize` takes rules, not a named value", item.name.span)
            continue
        if item.pattern is not None and network is not None:
            check_pattern(evaluator, item.pattern, network)
        node = item.value
        excluded: tuple[str, ...] = ()
        if isinstance(node, ast.Call):
            for argument in node.arguments:
                if argument.name is not None and argument.name.name == "except":
                    excluded = _excluded(evaluator, argument.value, network)
            rest = tuple(a for a in node.arguments if a.name is None or a.name.name != "except")
            node = ast.Call(node.function, rest, span=node.span)
        rule = chosen(evaluator, CATALOG, "regularizer", node, Environment())
        if rule is not None:
            pattern = item.pattern.name if item.pattern is not None else None
            found += [Regularizer(kind, rate, excluded, item.span, pattern) for kind, rate in rule.parts()]
    return tuple(found)


def check_pattern(evaluator: Evaluator, pattern: ast.Name, network: Network) -> None:
    """Reports a pattern behind `for` that matches no parameter of the network."""
    names = [n for n, spec in network.parameter_specs().items() if spec.trainable]
    if not any(matches(pattern.name, n) for n in names):
        scopes = {n.rpartition(".")[0] for n in names} | {n.partition(".")[0] for n in names} | {*names}
        tail = ".*" if pattern.name.endswith(".*") else ""
        near = closest(pattern.name.removesuffix(".*"), scopes)
        help = f"did you mean `{near}{tail}`?" if near else f"they are called {listing(names, 4)}"
        evaluator.error("E0813", f"no parameter of {network.name} is called `{pattern.name}`", pattern.span, help=help)


def _excluded(evaluator: Evaluator, node: ast.Expression, network: Network | None) -> tuple[str, ...]:
    """`bias`, `batch_norm`, `"features.*"`: roles, layers and patterns that a rule leaves alone."""
    found = []
    for part in node.items if isinstance(node, ast.List) else (node,):
        name = dotted(part)
        if name is None:
            message = '`except` takes roles (`bias`, `norm`), layers (`batch_norm`) and names (`fc`, "features.*")'
            evaluator.error("E0806", message, part.span)
            continue
        weights = list(weights_of(network).values()) if network is not None else []
        layers = evaluator.vocabulary.layers
        known = name in ROLES or name in layers or any(matches(name, w.name) for w in weights)
        if not known and network is not None:
            help = did_you_mean(name, {*ROLES, *layers, *(w.name.rpartition(".")[0] for w in weights)})
            message = f"`{name}` is neither a role ({listing(ROLES)}) nor a layer nor a weight of {network.name}"
            evaluator.error("E0813", message, part.span, help=help)
        found.append(name)
    return tuple(found)
