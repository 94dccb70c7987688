"""The whole flow, from an elaborated network to machine code and the program that runs it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from dlc.compiler.ir import DType, Graph
from dlc.compiler.ir.text import to_text
from dlc.compiler.kept import Kept, keep, recall
from dlc.compiler.network import Network, inference_form
from dlc.compiler.panel import CHANNELS
from dlc.compiler.passes import (
    FoldConstants,
    Fuse,
    NarrowFactors,
    PackWeights,
    PairProducts,
    PairWeights,
    ReducePrecision,
    Simplify,
    Winograd,
    WinogradGradient,
)
from dlc.compiler.passes.winograd import streams_weights
from dlc.compiler.precision import Precision, in_precision, narrowed, precision_named, rounded_weights
from dlc.compiler.recipe import Recipe
from dlc.compiler.sizes import Size, at_sizes
from dlc.compiler.training_step import build_part, build_training
from dlc.compiler.watching import Watched, build_watch
from dlc.runtime.artifact import Artifact, Manifest, TargetSpec, Variant
from dlc.runtime.data.preprocessing import Preprocessing
from dlc.runtime.device import FEATURES
from dlc.runtime.plan import Program, WeightSpec
from dlc.runtime.threads import available
from dlc.runtime.weights import match

AnyTarget = CpuTarget | CudaTarget
Weights = Mapping[str, np.ndarray]

SAMPLES = (1, 8)
"""The numbers of samples that programs for any batch are to be fast for."""


def compile_inference(
    network: Network,
    weights: Weights,
    target: AnyTarget,
    *,
    batch: int | None = None,
    precision: str = "float32",
    options: BuildOptions = PLAIN,
) -> tuple[Compiled, dict[str, np.ndarray]]:
    """The network's inference form, its weights folded and packed. `batch` fixes the batch size; None serves any.

    `weights` are canonical, by name; `precision` is that of the factors of products (see `compiler.precision`). Returns the compiled graph and its weights in
    the form that the kernels read, but for those with a transform (see `runtime.transformed`).
    """
    made = folding(network)
    return compile_folded(made.network, made.fold(weights), target, batch=batch, precision=precision, options=options)


def compile_folded(
    network: Network,
    weights: Weights,
    target: AnyTarget,
    *,
    batch: int | None = None,
    precision: str = "float32",
    options: BuildOptions = PLAIN,
) -> tuple[Compiled, dict[str, np.ndarray]]:
    """`compile_inference` of a network whose batch norms are folded."""
    batches, chosen = planned_batches(batch), precision_of(precision, target)
    graph, constants = folded_graph(network, weights, target, batch, precision, options.choices)
    graph = packed(graph, target)
    if chosen.is_rounded:
        graph = in_precision(graph, chosen.name, weights_ahead=True)
        constants = rounded_weights(graph, constants)
    if chosen.is_exact and isinstance(target, CpuTarget):
        streamed, forms = None, {}
        if options.choices:  # a convolution has one name, before and after its weights are packed
            built = Simplify()(build_inference(network))
            streamed = streams_weights(built, target.machine)
            forms = Winograd(target.machine, batches, choices=options.choices).measured(built)
        graph = with_winograd(graph, target, batches, options.choices, streamed=streamed)
        compiled = compile_graph(graph, target, batch=batch, options=options)
        return replace(compiled, choices={**compiled.choices, **forms}), pack(compiled, constants)
    compiled = compile_graph(graph, target, batch=batch, options=options)
    return compiled, pack(compiled, constants)


def compile_program(
    network: Network,
    weights: Weights,
    target: AnyTarget,
    batch: int | None,
    options: BuildOptions,
    precision: str = "float32",
) -> tuple[Kept, dict[str, np.ndarray]]:
    """The program of a network whose batch norms are folded, with its shared object, and its packed weights.

    What the cache knows is not compiled again.
    """
    chosen = precision_of(precision, target)
    known = None if chosen.is_rounded else recall(network, target, batch, chosen.name, options)
    if known is not None:
        return known, _packed(known.program, weights)
    compiled, packed = compile_folded(network, weights, target, batch=batch, precision=precision, options=options)
    choices = {name: str(choice) for name, choice in sorted(compiled.choices.items())}
    made = Kept(compiled.program, compiled.library(), choices)
    if not chosen.is_rounded:  # a program does not say which of its weights are rounded numbers
        keep(network, target, batch, chosen.name, options, made)
    return made, packed


def folded_graph(
    network: Network,
    weights: Weights,
    target: AnyTarget,
    batch: int | None = None,
    precision: str = "float32",
    choices: Choices = MODEL,
) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph of a network whose batch norms are folded, with the element types of its precision, and the weights that it reads.

    In float32, with those convolutions by tiles whose weights are better transformed once.
    """
    chosen = precision_of(precision, target)
    if chosen.dtype is DType.FLOAT32:
        built = build_inference(network)
        return fold(with_winograd(built, target, planned_batches(batch), choices, constant=True), weights)
    graph, constants = fold(build_inference(network), weights)
    if isinstance(target, CpuTarget):
        return PairWeights()(ReducePrecision(chosen.dtype)(graph)), constants
    return ReducePrecision(chosen.dtype, shortcuts=True)(graph), constants


def precision_of(word: str, target: AnyTarget) -> Precision:
    """How the products of a network for a target take their factors. Raises DlcError where the target cannot do so."""
    known = {t.name: t.precisions for t in (CpuTarget("cpu"), CudaTarget("cuda"), target)}
    return precision_named(word, target.name, known)


def planned_batches(batch: int | None) -> tuple[int, ...]:
    """The numbers of samples that a program is to be fast for: its own, or a few that stand for any."""
    return (batch,) if batch else SAMPLES


def compile_evaluation(network: Network, target: AnyTarget, options: BuildOptions = PLAIN) -> Compiled:
    """The inference form over weights that training goes on updating, for any batch: nothing is folded."""
    graph = with_winograd(packed(build_evaluation(network), target), target, SAMPLES)
    return compile_graph(graph, target, options=options)


def compile_training(recipe: Recipe, target: AnyTarget, batch: int, options: BuildOptions = PLAIN) -> Compiled:
    """One training step on `batch` samples: forward, backward and updates in place, as one program.

    Weights are packed before differentiation, so gradients and optimizer state are born in the form that kernels read.
    """
    return _compile_step(build_training(recipe, batch, _packing(recipe, target)), recipe, target, batch, options)


def compile_part(recipe: Recipe, target: AnyTarget, batch: int, options: BuildOptions = PLAIN) -> Compiled:
    """A part of a step that goes through its batch in several: gradients are added up, weights stay as they are."""
    return _compile_step(build_part(recipe, batch, _packing(recipe, target)), recipe, target, batch, options)


def _compile_step(graph: Graph, recipe: Recipe, target: AnyTarget, batch: int, options: BuildOptions) -> Compiled:
    """What a recipe computes in training, with its products in the forms that are fast."""
    if _pairs(recipe, target):
        graph = PairProducts()(graph)
    graph = with_winograd(graph, target, (batch,), options.choices, trained=True)
    return compile_graph(graph, target, batch=batch, options=options)


def _packing(recipe: Recipe, target: AnyTarget) -> Callable[[Graph], Graph]:
    """What is done to a recipe's forward graph before it is differentiated: `packed`, in the blocks that its products take."""
    return lambda forward: packed(forward, target, CHANNELS if _pairs(recipe, target) else 0)


def _pairs(recipe: Recipe, target: AnyTarget) -> bool:
    """Whether a recipe's products are of pairs of bfloat16, on a processor that has instructions for them."""
    return recipe.precision == "bfloat16" and isinstance(target, CpuTarget) and target.multiplies_pairs


def packed(graph: Graph, target: AnyTarget, block: int = 0) -> Graph:
    """The simplified graph over weights in the form that the target's kernels read, in blocks of `block` outputs (0: any)."""
    return PackWeights(target.lanes, block)(Simplify()(graph))


def with_winograd(
    graph: Graph,
    target: AnyTarget,
    batches: tuple[int, ...],
    choices: Choices = MODEL,
    *,
    constant: bool = False,
    trained: bool = False,
    streamed: bool | None = None,
) -> Graph:
    """The simplified graph with convolutions by tiles where they are faster for these numbers of samples.

    With `constant` weights, before they are packed: with those convolutions alone whose weights are better transformed once.
    Where weights are `trained`, their gradients may come by tiles too. `choices` go before the model; `streamed` says that weights
    come from memory at every call, None: where the graph's are many. For GPUs, without tiles, and with factors of bfloat16 as such.
    """
    graph = Simplify()(graph)
    if not isinstance(target, CpuTarget):
        return NarrowFactors()(graph) if target.multiplies_by_tensor_cores else graph
    graph = Winograd(target.machine, batches, constant, choices=choices, trained=trained, streamed=streamed)(graph)
    return WinogradGradient(target.machine, batches[0])(graph) if trained else graph


def compile_watch(
    recipe: Recipe, target: AnyTarget, batch: int, options: BuildOptions = PLAIN
) -> tuple[Compiled, tuple[Watched, ...]]:
    """What measures a training step on `batch` samples without making it, and what its outputs are about."""
    graph, watched = build_watch(recipe, batch, _packing(recipe, target))
    return _compile_step(graph, recipe, target, batch, options), watched


def fold(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, np.ndarray]]:
    """Everything that depends on weights alone, computed now."""
    return FoldConstants()(Simplify()(graph), weights)


def pack(compiled: Compiled, weights: Weights) -> dict[str, np.ndarray]:
    """Canonical weights, and the program's own constants, in the form that its kernels read, but for those with a transform."""
    return _packed(compiled.program, {**weights, **compiled.constants})


def _packed(program: Program, weights: Weights) -> dict[str, np.ndarray]:
    specs = [spec for spec in program.weights if spec.transform is None]

    def one(spec: WeightSpec) -> np.ndarray:
        array = narrowed(np.asarray(weights[spec.name]), spec.dtype, spec.name)
        return array if spec.layout is None else spec.layout.pack(array)

    with ThreadPoolExecutor(available()) as pool:
        return {spec.name: array for spec, array in zip(specs, pool.map(one, specs), strict=True)}


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
    precision: str = "float32",
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
    program, packed = compile_program(made.network, folded, target, batch, options, precision)
    stored = {**packed, **{name: array for name, array in folded.items() if name not in packed}}
    variants = [
        make_variant(at_sizes(network, [s]), folded, stored, target, batch, precision, options) for s in sizes[1:]
    ]
    manifest = Manifest(
        model=network.name,
        program=program.program,
        target=target_spec(target),
        classes=classes,
        preprocessing=preprocessing,
        source=dict(source or {}),
        versions={"dlc": version("dlc"), "tvm": version("apache-tvm"), "python": platform.python_version()},
        network=describe(network),
        precision=precision_of(precision, target).name,
        tuning=program.choices,
    )
    return Artifact(manifest, program.code, stored, tuple(variants))


def make_variant(
    network: Network,
    folded: Weights,
    stored: Weights,
    target: AnyTarget,
    batch: int | None = None,
    precision: str = "float32",
    options: BuildOptions = PLAIN,
) -> Variant:
    """A program for images of the network's size, over the weights `stored` in an artifact, from which it takes what it can.

    `folded` are the canonical weights of the folded network.
    """
    made, packed = compile_program(folding(network).network, folded, target, batch, options, precision)
    own = {n: a for n, a in packed.items() if n not in stored or not _is_same(a, stored[n])}
    return Variant(made.program, made.code, own)


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
    text: Callable[[Network, AnyTarget, Weights, str], str]
    """The network as it is there: of a network, a target, canonical weights and a precision."""


def stages() -> tuple[Stage, ...]:
    """The stages behind the checker, in order."""

    def folded(network: Network, target: AnyTarget, weights: Weights, precision: str) -> Graph:
        made = folding(network)
        return folded_graph(made.network, made.fold(weights), target, precision=precision)[0]

    def chosen(network: Network, target: AnyTarget, weights: Weights, precision: str) -> Graph:
        graph, how = packed(folded(network, target, weights, precision), target), precision_of(precision, target)
        if how.is_rounded:
            return in_precision(graph, how.name, weights_ahead=True)
        return with_winograd(graph, target, SAMPLES) if how.is_exact else graph

    def fused(network: Network, target: AnyTarget, weights: Weights, precision: str) -> str:
        kernels = Fuse(rounds_beside=isinstance(target, CudaTarget))(chosen(network, target, weights, precision))
        return "\n".join(f"{k.label or '-':<24} {k.what}" for k in kernels)

    def lowered(network: Network, target: AnyTarget, weights: Weights, precision: str) -> str:
        return compile_graph(chosen(network, target, weights, precision), target).script()

    return (
        Stage("build", "the graph", lambda n, t, w, p: to_text(build_inference(n))),
        Stage("fold", "the graph, constants and batch norm folded", lambda n, t, w, p: to_text(folded(n, t, w, p))),
        Stage(
            "pack",
            "the graph, weights packed for the target, convolutions by tiles, factors rounded",
            lambda n, t, w, p: to_text(chosen(n, t, w, p)),
        ),
        Stage("fuse", "the kernels: layer and fused ops", fused),
        Stage("lower", "the kernels' scheduled TensorIR", lowered),
    )
