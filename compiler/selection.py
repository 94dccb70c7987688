"""Which parameters a part of a recipe is about: optimizers, regularizers and initializers select by name, role or layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dlc.compiler.initializers.base import Initializer
from dlc.compiler.layers.base import ParameterSpec
from dlc.compiler.network import Network
from dlc.compiler.optimizers.frozen import Frozen
from dlc.compiler.recipe import InitGroup, OptimizerGroup, Regularizer


@dataclass(frozen=True)
class Weight:
    """A weight of a network: its dotted name, its spec, and the keyword of the layer that has it."""

    name: str
    spec: ParameterSpec
    layer: str


def weights_of(network: Network) -> Mapping[str, Weight]:
    """Every weight of a network by name, in order, auxiliary heads' included."""
    return {
        call.weights[key]: Weight(call.weights[key], spec, call.layer.keyword)
        for call in network.calls
        for key, spec in call.parameters.items()
    }


def matches(pattern: str, name: str) -> bool:
    """Whether a dotted name is selected: by itself ("c1.weight"), by its scope ("c1"), or by wildcards ("features.*")."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def group_of(groups: tuple[OptimizerGroup, ...], name: str) -> int | None:
    """The number of the optimizer for a weight: the first whose pattern matches, else the first without a pattern, else none."""
    for number, group in enumerate(groups):
        if group.pattern is not None and matches(group.pattern, name):
            return number
    return next((number for number, group in enumerate(groups) if group.pattern is None), None)


def is_trained(groups: tuple[OptimizerGroup, ...], name: str) -> bool:
    """Whether a weight has an optimizer that moves it."""
    number = group_of(groups, name)
    return number is not None and not isinstance(groups[number].optimizer, Frozen)


def rules_for(rules: tuple[Regularizer, ...], weight: Weight) -> list[Regularizer]:
    """The regularizers that are about a weight. One whose pattern matches takes the place of those of its kind without."""
    meant = [r for r in rules if _regularizes(r, weight)]
    own = {r.kind for r in meant if r.pattern is not None}
    return [r for r in meant if r.pattern is not None or r.kind not in own]


def clips(rule: Regularizer, name: str) -> bool:
    """Whether a rule that clips gradients is about a weight's."""
    return rule.pattern is None or matches(rule.pattern, name)


def _regularizes(rule: Regularizer, weight: Weight) -> bool:
    """Whether a regularizer is about a weight: its pattern matches, and nothing that it excludes names role, layer or name.

    `bias` excludes every parameter called bias, those of norms too; `norm` both parameters of every norm.
    """
    if rule.pattern is not None and not matches(rule.pattern, weight.name):
        return False
    last = weight.name.rpartition(".")[2]
    return not any(
        excluded in (weight.spec.role, weight.layer, last) or matches(excluded, weight.name)
        for excluded in rule.excluded
    )


def initializer_of(groups: tuple[InitGroup, ...], weight: Weight, default: Initializer) -> Initializer:
    """The initializer of a weight.

    The first group whose pattern matches decides; without one, the weight's own, then the group without a pattern, then
    `default`. A pattern that ends with a wildcard or names only a scope ("features.*", "c1") is about the weights without
    an initializer of their own; biases and norms are meant only where they are named ("c1.bias", "*.bias").
    """
    last = weight.name.rpartition(".")[2]
    for group in groups:
        if group.pattern is None or not matches(group.pattern, weight.name):
            continue
        if weight.spec.init is None or group.pattern.rpartition(".")[2] == last:
            return group.initializer
    if weight.spec.init is not None:
        return weight.spec.init
    return next((group.initializer for group in groups if group.pattern is None), default)
