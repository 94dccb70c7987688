"""What a training starts from: weights by the recipe's initializers, and the optimizers' state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dlc.compiler.initializers.fan import He
from dlc.compiler.network import Network
from dlc.compiler.optimizers.base import GRADIENT
from dlc.compiler.recipe import Recipe
from dlc.compiler.selection import group_of, initializer_of, is_trained, weights_of
from dlc.runtime.plan import AVERAGE
from dlc.runtime.threads import available


def initial_weights(network: Network, recipe: Recipe | None = None, seed: int | None = None) -> dict[str, np.ndarray]:
    """Every weight and running statistic by its dotted name, float32, canonical.

    Without a recipe, or where it says nothing, weights are drawn by `he`. Each weight has random numbers of its own, from
    the seed (the recipe's by default) and its name, so that it does not change when layers are added elsewhere.
    """
    groups = recipe.init if recipe is not None else ()
    if seed is None:
        seed = recipe.seed if recipe is not None else 0
    weights = weights_of(network)

    def fill(name: str) -> np.ndarray:
        spec = weights[name].spec
        generator = np.random.default_rng(_entropy(seed, name))
        array = initializer_of(groups, weights[name], He()).fill(spec.shape, spec.fan_in, spec.fan_out, generator)
        return np.ascontiguousarray(array, np.float32)

    with ThreadPoolExecutor(available()) as pool:  # numpy lets go of Python's lock while it draws
        return dict(zip(weights, pool.map(fill, weights), strict=True))


def initial_state(recipe: Recipe) -> dict[str, np.ndarray]:
    """The optimizers' state before the first step, "NAME@state", float32, canonical, for every trained weight.

    Averages are not among it: they start as the weights (see `initial_averages`).
    """
    filled: dict[str, np.ndarray] = {}
    for name, weight in weights_of(recipe.network).items():
        number = group_of(recipe.optimizers, name)
        if number is None or not weight.spec.trainable:
            continue
        states = dict(recipe.optimizers[number].optimizer.state())
        if recipe.accumulate > 1:
            states[GRADIENT] = 0.0
        for state, value in states.items():
            filled[f"{name}@{state}"] = np.full(weight.spec.shape, value, np.float32)
    return filled


def initial_averages(recipe: Recipe, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The averages before the first step, "NAME@average": copies of those of the weights that are trained."""
    if recipe.average is None:
        return {}
    specs = recipe.network.parameter_specs()
    return {
        f"{name}@{AVERAGE}": array.copy()
        for name, array in weights.items()
        if name in specs and specs[name].trainable and is_trained(recipe.optimizers, name)
    }


def _entropy(seed: int, name: str) -> list[int]:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4)]
