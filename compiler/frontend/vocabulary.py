"""What the checker knows besides the file it reads: catalogs of layers, losses, optimizers … by name.

The catalogs are passed in, because some of them (sources, transforms, schedules, metrics, stops) belong to the runtime,
which the compiler does not import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dlc.compiler.frontend.convert import words_of
from dlc.compiler.frontend.signatures import signature_of
from dlc.compiler.initializers.base import Initializer
from dlc.compiler.layers.base import Layer
from dlc.compiler.losses.base import Loss
from dlc.compiler.optimizers.base import Optimizer

Catalog = Mapping[str, type[Any]]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The names of the language that come from catalogs: name -> frozen dataclass."""

    layers: Mapping[str, type[Layer]]
    losses: Mapping[str, type[Loss]] = field(default_factory=dict)
    optimizers: Mapping[str, type[Optimizer]] = field(default_factory=dict)
    initializers: Mapping[str, type[Initializer]] = field(default_factory=dict)
    schedules: Catalog = field(default_factory=dict)
    stops: Catalog = field(default_factory=dict)
    metrics: Catalog = field(default_factory=dict)
    sources: Catalog = field(default_factory=dict)
    transforms: Catalog = field(default_factory=dict)

    @property
    def catalogs(self) -> tuple[tuple[str, Catalog], ...]:
        """Every catalog with the word that messages use for its members."""
        return (
            ("layer", self.layers), ("loss", self.losses), ("optimizer", self.optimizers),
            ("initializer", self.initializers), ("schedule", self.schedules), ("stopping rule", self.stops),
            ("metric", self.metrics), ("data source", self.sources), ("transform", self.transforms),
        )  # fmt: skip

    @cached_property
    def words(self) -> frozenset[str]:
        """Words that stand for themselves (`same` in `pad=same`): every Literal and Enum of a layer's arguments."""
        found: set[str] = set()
        for item in self.layers.values():
            for parameter in signature_of(item).parameters:
                found |= words_of(parameter.annotation)
        return frozenset(found)

    def catalog_for(self, annotation: object) -> Catalog | None:
        """The catalog whose members a field of this annotation takes (`init: Initializer`), None for plain values."""
        if not isinstance(annotation, type) or annotation in PLAIN:
            return None
        for _, catalog in self.catalogs:
            if any(issubclass(member, annotation) for member in catalog.values()):
                return catalog
        return None


PLAIN = frozenset({int, float, bool, str, list, tuple, object, type(None)})
"""Types that no catalog has members of."""
