"""What is tuned: a network's inference or a recipe's training step, compiled with some choices and ready to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dlc.api import fresh_weights
from dlc.benching import random_input
from dlc.compiler.build import build_inference
from dlc.compiler.choices import Choices
from dlc.compiler.codegen import Compiled
from dlc.compiler.codegen.cache import BuildOptions, Cache
from dlc.compiler.codegen.target import CpuTarget
from dlc.compiler.folding import folding
from dlc.compiler.initial import averaged, initial_arrays
from dlc.compiler.network import Network
from dlc.compiler.passes import PackWeights, Simplify
from dlc.compiler.passes.winograd import streams_weights
from dlc.compiler.pipeline import compile_folded, compile_training, planned_batches
from dlc.compiler.recipe import Recipe
from dlc.compiler.training_step import build_training
from dlc.runtime.arrays import aligned_copy
from dlc.runtime.executor import Executor
from dlc.runtime.training.checkpoint import average_of
from dlc.runtime.transformed import transformed

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Setting:
    """Kernels compiled for `batch` samples (None: any number), measured on `samples` of them."""

    batch: int | None
    samples: int


@dataclass(frozen=True)
class Built:
    """A compiled network with arrays to run on."""

    compiled: Compiled
    weights: Mapping[str, np.ndarray]
    executor: Executor

    def feeds(self, samples: int) -> dict[str, np.ndarray]:
        """Random numbers for its inputs, the same each time."""
        generator = np.random.default_rng(0)
        return {spec.name: random_input(spec, samples, generator) for spec in self.compiled.program.inputs}


class Tunable(Protocol):
    """A network that can be compiled with any choices."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def settings(self) -> tuple[Setting, ...]:
        """For what its kernels are compiled and measured."""

    @property
    def batches(self) -> tuple[int, ...]:
        """The numbers of samples that a form of a convolution is chosen for."""

    @property
    def trained(self) -> bool:
        """Whether weights change between calls, so that they are transformed in each."""

    def build(self, choices: Choices, progress: Progress | None = None) -> Built:
        """The network compiled with these choices."""

    def streams_weights(self, target: CpuTarget) -> bool:
        """Whether its weights come from memory at every call."""


@dataclass(frozen=True)
class Inference:
    """A network's inference form for `batch` samples; None: for any number, that is for one and for eight."""

    network: Network
    target: CpuTarget
    batch: int | None
    cache: Cache | None
    trained: bool = False

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def batches(self) -> tuple[int, ...]:
        return planned_batches(self.batch)

    @property
    def settings(self) -> tuple[Setting, ...]:
        if self.batch is not None:
            return (Setting(self.batch, self.batch),)
        return tuple(Setting(1 if samples == 1 else None, samples) for samples in self.batches)

    def build(self, choices: Choices, progress: Progress | None = None) -> Built:
        made = folding(self.network)
        weights = made.fold(fresh_weights(self.network))
        options = BuildOptions(self.cache, progress, choices)
        compiled, packed = compile_folded(made.network, weights, self.target, batch=self.batch, options=options)
        specs = compiled.program.weights
        once = transformed(specs, weights, {})
        packed |= {spec.name: once[spec.transform] for spec in specs if spec.transform is not None}
        return _built(compiled, packed)

    def streams_weights(self, target: CpuTarget) -> bool:
        return streams_weights(Simplify()(build_inference(folding(self.network).network)), target.machine)


@dataclass(frozen=True)
class Training:
    """A recipe's training step."""

    recipe: Recipe
    target: CpuTarget
    cache: Cache | None
    trained: bool = True

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def batches(self) -> tuple[int, ...]:
        return (self.recipe.batch // self.recipe.accumulate,)

    @property
    def settings(self) -> tuple[Setting, ...]:
        (batch,) = self.batches
        return (Setting(batch, batch),)

    def build(self, choices: Choices, progress: Progress | None = None) -> Built:
        options = BuildOptions(self.cache, progress, choices)
        compiled = compile_training(self.recipe, self.target, self.batches[0], options)
        weights = dict(initial_arrays(self.recipe))
        weights |= {average_of(name): weights[name] for name in averaged(self.recipe) if name in weights}
        packed = {}
        for spec in compiled.program.weights:
            if spec.name in compiled.constants:
                packed[spec.name] = compiled.constants[spec.name]
                continue
            array = np.asarray(weights[spec.name], np.float32)
            packed[spec.name] = array if spec.layout is None else spec.layout.pack(array)
        return _built(compiled, packed)

    def streams_weights(self, target: CpuTarget) -> bool:
        pack = PackWeights(target.lanes)
        graph = build_training(self.recipe, self.batches[0], prepare=lambda forward: pack(Simplify()(forward)))
        return streams_weights(Simplify()(graph), target.machine)


def _built(compiled: Compiled, weights: Mapping[str, np.ndarray]) -> Built:
    arrays = {name: aligned_copy(array) for name, array in weights.items()}
    return Built(compiled, arrays, Executor(compiled.program, compiled.function, arrays))
