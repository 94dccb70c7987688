"""The resolved recipe: what a `data` and a `train` section of a spec are once every name and number is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dlc.compiler.averaging import Ema
from dlc.compiler.initializers.base import Initializer
from dlc.compiler.losses.base import Loss
from dlc.compiler.network import Network
from dlc.compiler.optimizers.base import Optimizer
from dlc.compiler.source import Span
from dlc.runtime.data.dense import Dense


@dataclass(frozen=True)
class DataRecipe:
    """A `data` section. `source` and `augment` are instances from the runtime's catalogs (sources, transforms).

    `validate` is the fraction split off the training part; `normalize` is "per_channel", "per_pixel", None, or a pair
    (mean, std) of tuples, one number per channel. `fit` is how images of other proportions get the size `resize`, `views`
    at how many places of an image the error is measured; with `dense`, at all.
    """

    name: str
    source: Any
    validate: float = 0.0
    resize: tuple[int, int] | None = None
    normalize: str | tuple[tuple[float, ...], tuple[float, ...]] | None = None
    augment: tuple[Any, ...] = ()
    span: Span | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # the section as written, after --set, for recipe.json
    fit: Literal["stretch", "crop"] = "stretch"
    views: Literal["one", "ten"] = "one"
    dense: Dense | None = None


@dataclass(frozen=True)
class LossTerm:
    """`weight * loss(output)`."""

    loss: Loss
    output: str
    weight: float = 1.0
    span: Span | None = None


@dataclass(frozen=True)
class OptimizerGroup:
    """An optimizer for the parameters whose dotted name matches `pattern` ("features.*"); None: all others."""

    optimizer: Optimizer
    pattern: str | None = None
    span: Span | None = None


@dataclass(frozen=True)
class Regularizer:
    """`kind` "l1", "l2" (added to the gradient), "decay" (decoupled), "clip_norm" or "clip_value", with its rate.

    `excluded` names roles ("bias", "norm"), layer keywords ("batch_norm") or dotted-name patterns that it leaves alone;
    `pattern` the weights that it is for, None: all for which no rule of its kind has a pattern that matches.
    """

    kind: str
    rate: float
    excluded: tuple[str, ...] = ()
    span: Span | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class InitGroup:
    """An initializer for the weights whose dotted name matches `pattern`; None: all weights without one of their own."""

    initializer: Initializer
    pattern: str | None = None
    span: Span | None = None


@dataclass(frozen=True)
class Recipe:
    """A `train` section. `schedules` run one after the other (`a then b`); empty means a constant rate.

    `batch` is the number of samples a step, 0 for all of the training part. Exactly one of `epochs` and `steps` is given. `stop` and `metrics` are instances from the runtime's catalogs.
    `init_from` is a weights file to start from, matched by name and shape. `accumulate` is the number of equal parts in
    which a step's batch goes through the network; `average` what evaluation takes in the weights' place, `memory` the bytes that training may take, `precision` how exactly
    factors are taken ("float32", "tf32", "bfloat16"). `watch` is
    the duration after which statistics of all layers are written down each time.
    """

    name: str
    network: Network
    data: DataRecipe
    losses: tuple[LossTerm, ...]
    optimizers: tuple[OptimizerGroup, ...]
    schedules: tuple[Any, ...] = ()
    regularizers: tuple[Regularizer, ...] = ()
    init: tuple[InitGroup, ...] = ()
    init_from: str | None = None
    batch: int = 32
    accumulate: int = 1
    average: Ema | None = None
    memory: int | None = None
    precision: str = "float32"
    epochs: float | None = None
    steps: int | None = None
    stop: Any = None
    metrics: tuple[Any, ...] = ()
    watch: Any = None
    seed: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)  # the section as written, after --set, for recipe.json
    span: Span | None = None

    @property
    def mixes(self) -> bool:
        """Whether the augmentation mixes samples, so that each has two labels."""
        return any(hasattr(transform, "mix") for transform in self.data.augment)

    @property
    def scores(self) -> str:
        """The output that metrics look at: the first with a loss that inference has, else the first that it has."""
        kept = [o.name for o in self.network.outputs if not o.training_only]
        return next((term.output for term in self.losses if term.output in kept), kept[0])
