"""What a training starts from: weights by the recipe's initializers, and the optimizers' state."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dlc.compiler.initializers.fan import He
from dlc.compiler.network import Network
from dlc.compiler.optimizers.base import GRADIENT
from dlc.compiler.recipe import Recipe
from dlc.compiler.selection import group_of, initializer_of, is_trained, weights_of
from dlc.runtime.threads import available


def initial_weights(network: Network, recipe: Recipe | None = None, seed: int | None = None) -> dict[str, np.ndarray]:
    """Every weight and running statistic by its dotted name, float32, canonical.

    Without a recipe, or where it says nothing, weights are drawn by `he`. Each weight has random numbers of its own, from
    the seed (the recipe's by default) and its name, so that it does not change when layers are added elsewhere.
    """
    names, fill = _weights(network, recipe, seed)
    with ThreadPoolExecutor(available()) as pool:  # numpy lets go of Python's lock while it draws
        return dict(zip(names, pool.map(fill, names), strict=True))


def initial_arrays(recipe: Recipe) -> Iterator[tuple[str, np.ndarray]]:
    """What `initial_weights` and `initial_state` give, one after another, so that they are never all in memory at once."""
    names, fill = _weights(recipe.network, recipe, None)
    yield from ((name, fill(name)) for name in names)
    yield from _state(recipe)


def _weights(
    network: Network, recipe: Recipe | None, seed: int | None
) -> tuple[list[str], Callable[[str], np.ndarray]]:
    """The names of a network's weights, and the function that makes one."""
    groups = recipe.init if recipe is not None else ()
    if seed is None:
        seed = recipe.seed if recipe is not None else 0
    weights = weights_of(network)

    def fill(name: str) -> np.ndarray:
        spec = weights[name].spec
        generator = np.random.default_rng(_entropy(seed, name))
        array = initializer_of(groups, weights[name], He()).fill(spec.shape, spec.fan_in, spec.fan_out, generator)
        return np.ascontiguousarray(array, np.float32)

    return list(weights), fill


def initial_state(recipe: Recipe) -> dict[str, np.ndarray]:
    """The optimizers' state before the first step, "NAME@state", float32, canonical, for every trained weight.

    Averages are not among it: they start as the weights (see `averaged`).
    """
    return dict(_state(recipe))


def _state(recipe: Recipe) -> Iterator[tuple[str, np.ndarray]]:
    for name, weight in weights_of(recipe.network).items():
        number = group_of(recipe.optimizers, name)
        if number is None or not weight.spec.trainable:
            continue
        states = dict(recipe.optimizers[number].optimizer.state())
        if recipe.accumulate > 1:
            states[GRADIENT] = 0.0
        for state, value in states.items():
            shape = weight.spec.shape
            yield f"{name}@{state}", np.full(shape, value, np.float32) if value else np.zeros(shape, np.float32)


def averaged(recipe: Recipe) -> frozenset[str]:
    """The weights that have an average, "NAME@average", which begins as the weight does: those that are trained."""
    if recipe.average is None:
        return frozenset()
    specs = recipe.network.parameter_specs()
    return frozenset(n for n, spec in specs.items() if spec.trainable and is_trained(recipe.optimizers, n))


def _entropy(seed: int, name: str) -> list[int]:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4)]
