"""What users import and the command line calls: check, compile, train, evaluate; where compiler and runtime meet."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc.compiler.codegen.cache import BuildOptions, Cache, user_cache
from dlc.compiler.errors import Diagnostic, DlcError, SpecWarning
from dlc.recall import keep, recall
from dlc.runtime.atomic import replace_file
from dlc.runtime.names import suggest

if TYPE_CHECKING:
    import numpy as np

    from dlc.compiler.codegen.tuning import Reading
    from dlc.compiler.frontend import Checked, Vocabulary
    from dlc.compiler.network import Network
    from dlc.compiler.recipe import Recipe
    from dlc.runtime.session import Session
    from dlc.training import TrainingReport

Tuning = bool | str | Path
"""Whether what `dlc tune` measured goes before the cost models; or the database that holds it."""

Settings = Sequence[str]
"""Overrides of a recipe, as `--set` takes them: "train.batch=64", "data.source=mnist"."""


@cache
def vocabulary() -> Vocabulary:
    """Every layer, loss, optimizer … that a spec may name."""
    from dlc.compiler.catalog import catalog
    from dlc.compiler.frontend import Vocabulary
    from dlc.compiler.initializers.base import Initializer
    from dlc.compiler.layers.base import Layer
    from dlc.compiler.losses.base import Loss
    from dlc.compiler.optimizers.base import Optimizer
    from dlc.runtime.data.sources.base import Source
    from dlc.runtime.data.transforms.base import Transform
    from dlc.runtime.training.metrics.base import Metric
    from dlc.runtime.training.schedules.base import Schedule
    from dlc.runtime.training.stopping.base import Stopping

    return Vocabulary(
        layers=catalog("dlc.compiler.layers", Layer),
        losses=catalog("dlc.compiler.losses", Loss),
        optimizers=catalog("dlc.compiler.optimizers", Optimizer),
        initializers=catalog("dlc.compiler.initializers", Initializer),
        schedules=catalog("dlc.runtime.training.schedules", Schedule),
        stops=catalog("dlc.runtime.training.stopping", Stopping),
        metrics=catalog("dlc.runtime.training.metrics", Metric),
        sources=catalog("dlc.runtime.data.sources", Source),
        transforms=catalog("dlc.runtime.data.transforms", Transform),
    )


def check(spec: str | Path, settings: Settings = ()) -> Checked:
    """Checks a spec file whole; the result's `warnings` are about what is legal, but hardly meant.

    Raises DlcError with every mistake in it.
    """
    from dlc.compiler import frontend  # a tenth of a second, which networks that are known do without

    return frontend.check(Path(spec), vocabulary(), settings)


def format_file(spec: str | Path, *, write: bool = True) -> bool:
    """Whether formatting changes the file; with `write` it is changed, atomically. Raises DlcError for wrong syntax."""
    from dlc.compiler.frontend.formatter import format_source
    from dlc.compiler.frontend.imports import read

    path = Path(spec)
    source = read(path)
    formatted = format_source(source)
    if formatted == source.text:
        return False
    if write:
        with replace_file(path) as file:
            file.write(formatted.encode())
    return True


def networks(spec: str | Path, *, model: str | None = None, settings: Settings = ()) -> list[Network]:
    """The elaborated models of a file: the named one, or all that need no arguments."""
    checked = check(spec, settings)
    if model is None:
        return [m.network for m in checked.models.values()]
    return [_model(checked, model, spec)]


def one_network(spec: str | Path, *, model: str | None = None, settings: Settings = ()) -> Network:
    """The named model of a file; without a name the one that its first recipe trains, or its only one."""
    return _one_network(check(spec, settings), spec, model)


def _one_network(checked: Checked, spec: str | Path, model: str | None) -> Network:
    if model is not None:
        return _model(checked, model, spec)
    if checked.recipes:
        return next(iter(checked.recipes.values())).network
    found = [m.network for m in checked.models.values()]
    if len(found) == 1:
        return found[0]
    if not found:
        raise DlcError.of("E0610", f"{spec} has no model that can be built without arguments")
    names = ", ".join(n.name for n in found)
    raise DlcError.of("E0611", f"{spec} has {len(found)} models", help=f"choose one with --model: {names}")


def _model(checked: Checked, name: str, spec: str | Path) -> Network:
    if name not in checked.models:
        known = list(checked.models)
        raise DlcError.of(
            "E0612", f"{spec} has no model {name!r} that can be built without arguments", help=suggest(name, known)
        )
    return checked.models[name].network


def recipe_of(spec: str | Path, name: str | None = None, settings: Settings = ()) -> Recipe:
    """The named train section of a file, or its first. What is hardly meant about it is issued as SpecWarning."""
    recipe = _recipe(check(spec, settings), spec, name)
    from dlc.compiler import frontend

    _warn(frontend.cautions(recipe))
    return recipe


def _recipe(checked: Checked, spec: str | Path, name: str | None) -> Recipe:
    if not checked.recipes:
        raise DlcError.of(
            "E0830", f"{spec} has no train section", help="add one: train NAME { model …  data …  loss … }"
        )
    if name is None:
        return next(iter(checked.recipes.values()))
    if name not in checked.recipes:
        raise DlcError.of("E0831", f"{spec} has no train section {name!r}", help=suggest(name, list(checked.recipes)))
    return checked.recipes[name]


def _warn(diagnostics: Iterable[Diagnostic]) -> None:
    for diagnostic in diagnostics:
        warnings.warn(SpecWarning(diagnostic), stacklevel=3)


def fresh_weights(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Freshly initialised canonical weights by name."""
    from dlc.compiler.initial import initial_weights

    return initial_weights(network, seed=seed)


def compile(
    spec: str | Path,
    *,
    model: str | None = None,
    target: str = "cpu",
    weights: str | Path | Mapping[str, np.ndarray] | None = None,
    batch: int | None = None,
    threads: int | None = None,
    settings: Settings = (),
    sizes: Sequence[tuple[int, int]] = (),
    precision: str = "float32",
    cache: bool = True,
    tuning: Tuning = True,
) -> Session:
    """Compiles a model of a spec file; the result can be called, and saved with `.save(path)`.

    `weights` is a .safetensors file or arrays by name; without, weights are freshly initialised. `batch` fixes the
    number of samples per call; without, any number runs. `sizes` are heights and widths of images: a program is compiled
    for each, by default for the one in the spec. `precision` is that of weights and products: "float32", "bf16", for GPUs "tf32"
    and "fp16" too, with sums still in float32. Compiled kernels are kept in the user's cache folder unless `cache` is off. What `dlc tune` measured goes
    before the cost models, unless `tuning` is off; it may name a database. Raises DlcError for mistakes in the spec,
    RuntimeFault for weights that do not fit.
    """
    network = one_network(spec, model=model, settings=settings)
    return compile_network(
        network,
        target=target,
        weights=weights,
        batch=batch,
        threads=threads,
        sizes=sizes,
        precision=precision,
        cache=cache,
        tuning=tuning,
    )


def compile_network(
    network: Network,
    *,
    target: str = "cpu",
    weights: str | Path | Mapping[str, np.ndarray] | None = None,
    batch: int | None = None,
    threads: int | None = None,
    sizes: Sequence[tuple[int, int]] = (),
    precision: str = "float32",
    cache: bool = True,
    progress: Callable[[float], None] | None = None,
    tuning: Tuning = True,
) -> Session:
    """Compiles an elaborated network; see `compile`. `progress` is told what part of the work is done."""
    from dlc.loading import specialise
    from dlc.runtime.session import Session

    options = _options(cache, progress)
    options = replace(options, choices=_measured(target, tuning, options.cache).choices)
    made = _artifact(network, target, weights, batch, sizes, precision, options)
    return Session(made, threads, specialise)


@dataclass(frozen=True)
class CompileReport:
    """An artifact that was written: where, how many bytes, which model and target, and how long it took.

    `differences` says, a line each, how a weights file that fits only in part differs from the network. `tuned` counts what
    measurements decided in the cost models' place; `damaged` the lines of their database that could not be read.
    """

    artifact: Path
    size: int
    model: str
    target: str
    seconds: float
    differences: tuple[str, ...] = ()
    tuned: int = 0
    damaged: int = 0


def compile_to_file(
    spec: str | Path,
    output: str | Path | None = None,
    *,
    model: str | None = None,
    target: str = "cpu",
    weights: str | Path | Mapping[str, np.ndarray] | None = None,
    batch: int | None = None,
    settings: Settings = (),
    partial: bool = False,
    sizes: Sequence[tuple[int, int]] = (),
    precision: str = "float32",
    cache: bool = True,
    progress: Callable[[float], None] | None = None,
    tuning: Tuning = True,
) -> CompileReport:
    """Compiles a model of a spec file for any target and writes the artifact, by default MODEL.dlc here.

    `sizes` are those of images for which the artifact has programs, the first for its main one (see `compile`). With
    `partial`, weights that `weights` lacks, or has in another shape, are freshly initialised, and what the network does not
    have is left; the report says which. Otherwise, RuntimeFault does. `progress` is told what part of the work is done;
    `tuning` is as in `compile`.
    """
    from dlc.runtime.artifact import save_artifact

    started = time.perf_counter()
    options = _options(cache, progress)
    simple = (
        not partial and not sizes and not isinstance(weights, Mapping)
    )  # no message may be about places in the spec
    network, unused = _elaborated(spec, model, settings, options.cache if simple else None)
    differences: tuple[str, ...] = ()
    if partial and weights is not None:
        weights, differences = _partial(network, weights)
    path = Path(output) if output is not None else Path(f"{network.name}.dlc")
    measured = _measured(target, tuning, options.cache)
    options = replace(options, choices=measured.choices)
    made = _artifact(network, target, weights, batch, sizes, precision, options, unused)
    save_artifact(path, made)
    seconds, tuned = time.perf_counter() - started, len(made.manifest.tuning)
    return CompileReport(path, path.stat().st_size, network.name, target, seconds, differences, tuned, measured.damaged)


def _elaborated(
    spec: str | Path, model: str | None, settings: Settings, kept: Cache | None
) -> tuple[Network, frozenset[str]]:
    """A model of a spec file, and the names of weights that only training has where the model lacks them."""
    if kept is not None:
        known = recall(spec, model, settings, kept)
        if known is not None:
            return known.network, known.training_only
    checked = check(spec, settings)
    network = _one_network(checked, spec, model)
    _warn(checked.warnings)
    if kept is not None and not checked.warnings:
        keep(spec, model, settings, network, kept)
    return network, frozenset()


def _partial(
    network: Network, weights: str | Path | Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Weights for all of a network, the given ones where they fit, and how they differ from the network's."""
    from dlc.runtime.weights import fill, load_weights

    origin = "weights"
    if isinstance(weights, str | Path):
        origin, weights = str(weights), load_weights(weights)
    shapes = {name: spec.shape for name, spec in network.parameter_specs(training=False).items()}
    filled, mismatch = fill(shapes, network.inference_weights(weights), fresh_weights(network), origin)
    return filled, tuple(mismatch.lines())


def _options(cache: bool, progress: Callable[[float], None] | None) -> BuildOptions:
    return BuildOptions(user_cache() if cache else None, progress)


def _measured(target: str, tuning: Tuning, kept: Cache | None) -> Reading:
    """What was measured for a target: in the user's database, or the one that `tuning` names."""
    from dlc.compiler.codegen.target import Target
    from dlc.compiler.codegen.tuning import measured_choices

    return measured_choices(Target.parse(target, kept), tuning)


def _artifact(
    network: Network,
    target: str,
    weights: str | Path | Mapping[str, np.ndarray] | None,
    batch: int | None,
    sizes: Sequence[tuple[int, int]],
    precision: str,
    options: BuildOptions,
    unused: frozenset[str] = frozenset(),
) -> Any:
    """`unused` names weights that a file may hold though the network, its inference form, has no use for them."""
    import numpy as np

    from dlc.compiler.codegen.target import Target
    from dlc.compiler.sizes import at_sizes
    from dlc.runtime.weights import load_weights

    chosen, origin = Target.parse(target, options.cache), "the given arrays"
    if batch is not None and (not isinstance(batch, int) or isinstance(batch, bool) or batch < 1):
        raise DlcError.of("E0857", f"the batch must be a whole number from 1, not {batch!r}")
    sizes = tuple(dict.fromkeys(sizes))
    for size in sizes:
        at_sizes(network, [size])
    if isinstance(weights, str | Path):
        origin = str(weights)
        weights = {n: a for n, a in load_weights(weights, mapped=True).items() if n not in unused}
    elif weights is None:
        weights = fresh_weights(network)
    elif not isinstance(weights, Mapping):
        raise DlcError.of("E0858", f"weights are a file, or arrays by name, not {type(weights).__name__}")
    else:
        weights = {name: np.asarray(array) for name, array in weights.items()}
    from dlc.compiler.pipeline import make_artifact

    return make_artifact(
        network, weights, chosen, batch=batch, origin=origin, sizes=sizes, precision=precision, options=options
    )


def show_after(
    spec: str | Path,
    stage: str,
    *,
    model: str | None = None,
    target: str = "cpu",
    precision: str = "float32",
    settings: Settings = (),
) -> str:
    """A spec or one of its models as text, as it is after a stage of the compiler."""
    from dlc.compiler.codegen.target import Target

    if stage == "parse":
        from dlc.compiler.frontend.dump import dump
        from dlc.compiler.frontend.imports import read
        from dlc.compiler.frontend.parser import parse

        return dump(parse(read(Path(spec))))
    if stage == "check":
        return "\n\n".join(describe(n) for n in networks(spec, model=model, settings=settings))
    from dlc.compiler.pipeline import stages

    found = {s.name: s for s in stages()}
    if stage not in found:
        names = ["parse", "check", *found]
        raise DlcError.of("E0614", f"there is no stage {stage!r}", help=f"{suggest(stage, names)}")
    network = one_network(spec, model=model, settings=settings)
    return found[stage].text(network, Target.parse(target), fresh_weights(network), precision)


def describe(network: Network) -> str:
    """An elaborated network as text: a line per layer call with its inputs, weights and output shape."""
    names = {id(i): i.name for i in network.inputs} | {id(c): c.name for c in network.calls}
    lines = [f"network {network.name}"]
    lines += [f"  input {i.name}: {list(i.shape)}" for i in network.inputs]
    for call in network.calls:
        inputs = ", ".join(names[id(t.producer)] for t in call.inputs)
        weights = "".join(f"  {name}: {list(call.parameters[key].shape)}" for key, name in call.weights.items())
        lines.append(f"  {call.name} = {call.layer}({inputs}): {list(call.output.shape)}{weights}")
    lines += [
        f"  output {o.name} = {names[id(o.tensor.producer)]}" + (" when training" if o.training_only else "")
        for o in network.outputs
    ]
    return "\n".join(lines)


def train(spec: str | Path, **options: Any) -> TrainingReport:
    """Trains by a recipe of a spec file and compiles the best weights; see `dlc.training.train`."""
    from dlc.training import train as run

    return run(spec, **options)
