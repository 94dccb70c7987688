"""The whole flow, from an elaborated network to machine code and the program that runs it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from dlc.compiler.build import build_evaluation, build_inference
from dlc.compiler.choices import MODEL, Choices
from dlc.compiler.codegen import Compiled, compile_graph
from dlc.compiler.codegen.cache import PLAIN, BuildOptions
from dlc.compiler.codegen.target import CpuTarget, CudaTarget
from dlc.compiler.description import describe
from dlc.compiler.folding import folding
from dlc.compiler.ir import Graph
from dlc.compiler.ir.text import to_text
from dlc.compiler.network import Network, inference_form
from dlc.compiler.passes import FoldConstants, Fuse, PackWeights, Simplify, Winograd
from dlc.compiler.recipe import Recipe
from dlc.compiler.sizes import Size, at_sizes
from dlc.compiler.training_step import build_part, build_training
from dlc.compiler.watching import Watched, build_watch
from dlc.runtime.artifact import Artifact, Manifest, TargetSpec, Variant
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.device import FEATURES
from dlc.runtime.weights import match

AnyTarget = CpuTarget | CudaTarget
Weights = Mapping[str, np.ndarray]


def compile_inference(
    network: Network,
    weights: Weights,
    target: AnyTarget,
    *,
    batch: int | None = None,
    options: BuildOptions = PLAIN,
) -> tuple[Compiled, dict[str, np.ndarray]]:
    """The network's inference form, its weights folded and packed. `batch` fixes the batch size; None serves any.

    `weights` are canonical, by name. Returns the compiled graph and its weights in the form that the kernels read.
    """
    made = folding(network)
    return compile_folded(made.network, made.fold(weights), target, batch=batch, options=options)


def compile_folded(
    network: Network,
    weights: Weights,
    target: AnyTarget,
    *,
    batch: int | None = None,
    options: BuildOptions = PLAIN,
) -> tuple[Compiled, dict[str, np.ndarray]]:
    """`compile_inference` of a network whose batch norms are folded."""
    built, batches = Simplify()(build_inference(network)), planned_batches(batch)
    graph, constants = fold(with_winograd(built, target, batches, options.choices), weights)
    graph = PackWeights(target.lanes)(Simplify()(graph))
    compiled = compile_graph(graph, target, batch=batch, options=options)
    if options.choices and isinstance(target, CpuTarget):
        forms = Winograd(target.machine, batches, choices=options.choices).measured(built)
        compiled = replace(compiled, choices={**compiled.choices, **forms})
    return compiled, pack(compiled, constants)


def planned_batches(batch: int | None) -> tuple[int, ...]:
    """The numbers of samples that a program is to be fast for: its own, or a few that stand for any."""
    return (1, 8) if batch is None else (batch,)


def compile_evaluation(network: Network, target: AnyTarget, options: BuildOptions = PLAIN) -> Compiled:
    """The inference form over weights that training goes on updating, for any batch: nothing is folded."""
    graph = PackWeights(target.lanes)(Simplify()(build_evaluation(network)))
    return compile_graph(graph, target, options=options)


def compile_training(recipe: Recipe, target: AnyTarget, batch: int, options: BuildOptions = PLAIN) -> Compiled:
    """One training step on `batch` samples: forward, backward and updates in place, as one program.

    Weights are packed before differentiation, so gradients and optimizer state are born in the form that kernels read.
    """
    graph = build_training(recipe, batch, prepare=lambda forward: PackWeights(target.lanes)(Simplify()(forward)))
    return compile_graph(
        with_winograd(graph, target, (batch,), options.choices, trained=True), target, batch=batch, options=options
    )


def compile_part(recipe: Recipe, target: AnyTarget, batch: int, options: BuildOptions = PLAIN) -> Compiled:
    """A part of a step that goes through its batch in several: gradients are added up, weights stay as they are."""
    graph = build_part(recipe, batch, prepare=lambda forward: PackWeights(target.lanes)(Simplify()(forward)))
    return compile_graph(
        with_winograd(graph, target, (batch,), options.choices, trained=True), target, batch=batch, options=options
    )


def with_winograd(
    graph: Graph, target: AnyTarget, batches: tuple[int, ...], choices: Choices = MODEL, *, trained: bool = False
) -> Graph:
    """The simplified graph with convolutions by tiles where they are faster for these numbers of samples.

    Where weights are `trained`, they are transformed in every step.
    """
    graph = Simplify()(graph)
    if not isinstance(target, CpuTarget):
        return graph
    return Winograd(target.machine, batches, constant_weights=not trained, choices=choices)(graph)


def compile_watch(
    recipe: Recipe, target: AnyTarget, batch: int, options: BuildOptions = PLAIN
) -> tuple[Compiled, tuple[Watched, ...]]:
    """What measures a training step on `batch` samples without making it, and what its outputs are about."""
    graph, watched = build_watch(recipe, batch, prepare=lambda forward: PackWeights(target.lanes)(Simplify()(forward)))
    return compile_graph(
        with_winograd(graph, target, (batch,), options.choices, trained=True), target, batch=batch, options=options
    ), watched


def fold(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, np.ndarray]]:
    """Everything that depends on weights alone, computed now."""
    return FoldConstants()(Simplify()(graph), weights)


def pack(compiled: Compiled, weights: Weights) -> dict[str, np.ndarray]:
    """Canonical weights, and the program's own constants, in the form that its kernels read."""
    packed = {}
    for spec in compiled.program.weights:
        array = compiled.constants[spec.name] if spec.name in compiled.constants else weights[spec.name]
        packed[spec.name] = array if spec.layout is None else spec.layout.pack(np.asarray(array))
    return packed


def make_artifact(
    network: Network,
    weights: Weights,
    target: AnyTarget,
    *,
    batch: int | None = None,
    classes: tuple[str, ...] = (),
    preprocessing: Preprocessing | None = None,
    source: Mapping[str, Any] | None = None,
    origin: str = "weights",
    sizes: Sequence[Size] = (),
    options: BuildOptions = PLAIN,
) -> Artifact:
    """A model compiled and ready to save or to run. Raises RuntimeFault (R0403) where weights do not match the network.

    `origin` names the weights' file in messages, `source` the data source that they were trained on (keyword and arguments).
    `sizes` are those of images for which the artifact has programs, the first for its main one; empty: the network's.
    """
    weights = match(
        {name: spec.shape for name, spec in network.parameter_specs(training=False).items()},
        network.inference_weights(weights),
        origin,
    )
    network = at_sizes(network, sizes[:1]) if sizes else inference_form(network)
    made = folding(network)
    folded = made.fold(weights)
    compiled, packed = compile_folded(made.network, folded, target, batch=batch, options=options)
    stored = {**packed, **{name: array for name, array in folded.items() if name not in packed}}
    variants = [make_variant(at_sizes(network, [s]), folded, stored, target, batch, options) for s in sizes[1:]]
    manifest = Manifest(
        model=network.name,
        program=compiled.program,
        target=target_spec(target),
        classes=classes,
        preprocessing=preprocessing,
        source=dict(source or {}),
        versions={"dlc": version("dlc"), "tvm": version("apache-tvm"), "python": platform.python_version()},
        network=describe(network),
        tuning={name: str(choice) for name, choice in sorted(compiled.choices.items())},
    )
    return Artifact(manifest, compiled.library(), stored, tuple(variants))


def make_variant(
    network: Network,
    folded: Weights,
    stored: Weights,
    target: AnyTarget,
    batch: int | None = None,
    options: BuildOptions = PLAIN,
) -> Variant:
    """A program for images of the network's size, over the weights `stored` in an artifact, from which it takes what it can.

    `folded` are the canonical weights of the folded network.
    """
    compiled, packed = compile_folded(folding(network).network, folded, target, batch=batch, options=options)
    own = {n: a for n, a in packed.items() if n not in stored or not _is_same(a, stored[n])}
    return Variant(compiled.program, compiled.library(), own)


def _is_same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def target_spec(target: AnyTarget) -> TargetSpec:
    """What an artifact says about its target: the instruction set features that its code may use."""
    host = target if isinstance(target, CpuTarget) else target.host
    return TargetSpec(
        target.name, host.mtriple, host.mcpu, host.supported(FEATURES.get(host.mtriple.partition("-")[0], ()))
    )


@dataclass(frozen=True)
class Stage:
    """A place in the flow where `dlc show --after` can stop."""

    name: str
    shows: str
    text: Callable[[Network, AnyTarget, Weights], str]


def stages() -> tuple[Stage, ...]:
    """The stages behind the checker, in order."""

    def built(network: Network, target: AnyTarget, weights: Weights) -> Graph:
        return build_inference(network)

    def folded(network: Network, target: AnyTarget, weights: Weights) -> Graph:
        made = folding(network)
        return fold(with_winograd(build_inference(made.network), target, (1, 8)), made.fold(weights))[0]

    def packed(network: Network, target: AnyTarget, weights: Weights) -> Graph:
        return PackWeights(target.lanes)(Simplify()(folded(network, target, weights)))

    def fused(network: Network, target: AnyTarget, weights: Weights) -> str:
        kernels = Fuse()(packed(network, target, weights))
        return "\n".join(f"{k.label or '-':<24} {k.what}" for k in kernels)

    def lowered(network: Network, target: AnyTarget, weights: Weights) -> str:
        return compile_graph(packed(network, target, weights), target).script()

    return (
        Stage("build", "the graph", lambda n, t, w: to_text(built(n, t, w))),
        Stage("fold", "the graph, constants and batch norm folded", lambda n, t, w: to_text(folded(n, t, w))),
        Stage("pack", "the graph, weights packed for the target", lambda n, t, w: to_text(packed(n, t, w))),
        Stage("fuse", "the kernels: layer and fused ops", fused),
        Stage("lower", "the kernels' scheduled TensorIR", lowered),
    )
