"""Training by a recipe: compiles the step and the evaluation, runs the loop, compiles the best weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlc.api import Settings, Tuning, recipe_of
from dlc.compiler.codegen.cache import PLAIN, BuildOptions, user_cache
from dlc.compiler.codegen.target import Target
from dlc.compiler.codegen.tuning import measured_choices
from dlc.compiler.dense import fully_convolutional
from dlc.compiler.errors import DlcError
from dlc.compiler.initial import averaged, initial_arrays
from dlc.compiler.recipe import Recipe
from dlc.data import compiled_warps, load_data
from dlc.placement import Placement, placement, require_target
from dlc.progress import CompilingBar
from dlc.reporting import write_evaluation, write_report
from dlc.resolved import digest, resolved
from dlc.runtime.arrays import aligned_empty, aligned_zeros
from dlc.runtime.artifact import save_artifact
from dlc.runtime.atomic import write_fault
from dlc.runtime.data.prepare import Prepared
from dlc.runtime.data.sources.base import Source
from dlc.runtime.executor import StepTime
from dlc.runtime.plan import Program, WeightSpec
from dlc.runtime.training.budget import available_memory, require_memory
from dlc.runtime.training.checkpoint import BEST, RESUME, average_of
from dlc.runtime.training.loop import Trainer
from dlc.runtime.training.options import TrainingOptions
from dlc.runtime.training.parts import InChunks, Runnable, StepInParts
from dlc.runtime.training.progress import Silent, progress_on
from dlc.runtime.training.reshaped import Reshaped, bind
from dlc.runtime.training.schedules.base import Duration
from dlc.runtime.training.watch import Watch
from dlc.runtime.weights import load_weights
from dlc.validation import RecipeLoss

ARTIFACT = "model.dlc"


@dataclass(frozen=True)
class TrainingReport:
    """How a training run ended. `test_error` is that of the best weights, 0 to 1; `history` has one record per epoch."""

    test_error: float
    epochs: int
    seconds: float
    artifact: Path
    out: Path
    history: tuple[Mapping[str, float], ...]


def train(
    spec: str | Path,
    *,
    recipe: str | None = None,
    out: str | Path | None = None,
    data: str | Path | None = None,
    settings: Settings = (),
    resume: bool = False,
    threads: int | None = None,
    progress: bool = False,
    cache: bool = True,
    target: str = "cpu",
    tuned: Tuning = False,
) -> TrainingReport:
    """Trains by the named recipe of a spec file, or its first, into the directory `out` (default: runs/RECIPE).

    Leaves last.safetensors, best.safetensors, model.dlc (compiled from the best), recipe.json, metrics.jsonl,
    evaluation.json and report.html there.
    `target` is what trains, "cpu" or "cuda", and what model.dlc is compiled for. `data` is where the data source reads from.
    With `resume`, goes on from the last checkpoint; the weights end equal, bit for bit, to those of a run that was never
    interrupted. Compiled kernels are kept in the user's cache folder unless `cache` is off. With `tuned`, what `dlc tune`
    measured goes before the cost models (it may name a database); a run that is resumed after more was measured is then the
    same but for rounding. Raises DlcError and RuntimeFault for the user's mistakes.
    """
    plan = recipe_of(spec, recipe, settings)
    require_target(Target.parse(target))
    folder = Path(out) if out is not None else Path("runs", plan.name)
    prepared = load_data(plan, Path(data) if data is not None else None)
    plan = with_whole_batch(plan, prepared)
    continues = resume and (folder / RESUME).exists()  # its weights replace those that the run began with
    start = (
        load_weights(_beside(spec, plan.init_from), mapped=True)
        if plan.init_from is not None and not continues
        else None
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not continues:
            (folder / ARTIFACT).unlink(missing_ok=True)  # it would outlive the weights that it was made of
    except OSError as error:
        raise write_fault(folder, error) from error
    with CompilingBar(shown=progress) as bar:
        kept = user_cache() if cache else None
        choices = measured_choices(Target.parse(target, kept), tuned).choices
        options = BuildOptions(kept, bar, choices)
        dense = prepared.preprocessing.dense
        session = TrainingSession(plan, threads=threads, options=options, dense=dense, target=target)
    if start is not None:
        session.start_from(start)
        del start  # and with it the file that is mapped
    trainer = Trainer(
        session.step,
        session.evaluation,
        session.arrays,
        prepared,
        options_of(plan),
        folder,
        progress_on() if progress else Silent(),
        compiled_warps(threads, BuildOptions(options.cache)),
        session.watch,
        session.place,
        session.expect,
    )
    result = trainer.run(resume=resume)
    artifact = folder / ARTIFACT
    _compile_best(plan, prepared, folder / BEST, artifact, BuildOptions(options.cache, choices=choices), target)
    write_evaluation(session, prepared, result, folder)
    write_report(folder)
    return TrainingReport(result.test["error"], result.epochs, result.seconds, artifact, folder, result.history)


def _beside(spec: str | Path, file: str) -> Path:
    """A file that a spec names: in the spec's folder, or if there is none, where the user stands."""
    beside = Path(spec).parent / file
    return beside if beside.exists() else Path(file)


def with_whole_batch(recipe: Recipe, data: Prepared) -> Recipe:
    """The recipe with the number of training samples where it says `batch all`.

    Raises DlcError where they cannot be divided into the parts of `accumulate`.
    """
    if recipe.batch:
        return recipe
    count = len(data.train.labels)
    if count % recipe.accumulate:
        raise DlcError.of(
            "E0807",
            f"all {count} training samples cannot be divided into {recipe.accumulate} equal parts",
            span=recipe.span,
            help="change `accumulate`, or `validate` in the data section",
        )
    return dataclasses.replace(recipe, batch=count)


class TrainingSession:
    """A recipe's compiled step and evaluation over one set of weights.

    `arrays` holds every weight, running statistic and optimizer state in the form that kernels read; `step` updates them
    in place, `evaluation` reads them, or their averages where the recipe has any.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        threads: int | None = None,
        options: BuildOptions = PLAIN,
        dense: tuple[int, int] | None = None,
        target: str = "cpu",
        place: Placement | None = None,
    ) -> None:
        """Compiles the programs for this machine and fills the arrays by the recipe's initializers.

        `target` is what trains; `place` is where, if not on its own device. `dense` is the size of images that are evaluated
        densely; None: of those that the network is trained on. Raises DlcError where the network cannot be, RuntimeFault where
        the memory does not suffice (R0207) or this machine has no such device (R0107, R0108).
        """
        from dlc.compiler.pipeline import compile_evaluation, compile_part, compile_training
        from dlc.fitting import fitted

        self._target, available = Target.parse(target, options.cache), available_memory()
        self.place: Placement = place or placement(self._target, threads)
        size = recipe.batch // recipe.accumulate
        last = compile_training(recipe, self._target, size, options)
        part = compile_part(recipe, self._target, size, options) if recipe.accumulate > 1 else None
        network = recipe.network if dense is None else fully_convolutional(recipe.network, dense).network
        evaluation = compile_evaluation(network, self._target, options)
        made = fitted(recipe, last, part, evaluation)
        last, part = made.last, made.part
        self.recipe, self.need = recipe, made.need
        here = (
            made.need if self._target.device == "cpu" else dataclasses.replace(made.need, arena=0)
        )  # that is the GPU's
        require_memory(here, available)
        self.arrays: dict[str, np.ndarray] = {}
        programs = tuple(m.program for m in (last, part, evaluation) if m is not None)
        self._specs = _specs(programs if dense is None else programs[:-1])  # others fill those of a dense evaluation
        self._averaged = averaged(recipe)
        self._options = options
        for name, array in initial_arrays(recipe):
            self._set(name, array)
        self._arena = aligned_empty((here.arena,), np.dtype(np.uint8))  # for all programs: one runs at a time
        step = self.place.executor(last, self.arrays, self._arena)
        self._last = step
        self.step: Runnable = step
        if part is not None:
            first = self.place.executor(part, self.arrays, self._arena)
            self.step = StepInParts(first, step, recipe.accumulate)
        averages = {name: self.arrays.get(average_of(name), array) for name, array in self.arrays.items()}
        bound, copies = bind(last.program.weights, averages, evaluation.program.weights)
        evaluating = InChunks(self.place.executor(evaluation, bound, self._arena), made.evaluated)
        self.evaluation: Runnable = (
            Reshaped(evaluating, copies, self.place.fetch, self.place.push) if copies else evaluating
        )

    def watch(self) -> Watch:
        """Compiles what measures steps without making them."""
        from dlc.compiler.pipeline import compile_watch
        from dlc.fitting import fits

        recipe, options = self.recipe, self._options
        made, watched = compile_watch(recipe, self._target, recipe.batch // recipe.accumulate, options)
        if recipe.memory is not None:
            made = fits(made, self.need.arena)
        return Watch(self.place.executor(made, self.arrays, self._arena), watched, recipe.accumulate)

    def expect(self, inputs: Mapping[str, Any]) -> None:
        """Says what samples the next but one step will be given: on a GPU they are copied while the next one computes."""
        if self.step is self._last:
            self.place.expect(self._last, inputs)

    def scores(self, images: np.ndarray) -> np.ndarray:
        """The output that metrics look at, of normalised images float32 [n, c, h, w]."""
        (image,) = (spec.name for spec in self.evaluation.program.inputs)
        return self.evaluation.run({image: images})[self.recipe.scores]

    def profile(self, repeats: int = 5) -> list[StepTime]:
        """The times of the step's kernels, on random images and at a rate of 0. Changes statistics and state."""
        generator = np.random.default_rng(0)
        inputs = {
            spec.name: generator.standard_normal(spec.shape, np.float32)
            if not spec.name.startswith("train.")
            else np.zeros(spec.shape, spec.dtype)
            for spec in self._last.program.inputs
        }
        return self._last.profile(inputs, repeats)

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Puts canonical arrays in the place of those of the same names, and of their averages; the others stay."""
        self.place.fetch()  # for those that stay
        for name, array in weights.items():
            self._set(name, array)
        self.place.push()

    def _set(self, name: str, array: np.ndarray) -> None:
        """Puts a canonical array in the place of the one of this name, and of its average."""
        array = np.asarray(array, np.float32)
        for key in (name, average_of(name)) if name in self._averaged else (name,):
            spec = self._specs.get(key)
            if spec is None:
                continue
            if key not in self.arrays:
                self.arrays[key] = aligned_zeros(spec.shape, spec.dtype)
                if not array.any():
                    continue  # memory that nothing was written to is not taken yet
            if spec.layout is None:
                self.arrays[key][...] = array
            else:
                spec.layout.pack(array, out=self.arrays[key])

    def start_from(self, weights: Mapping[str, np.ndarray]) -> None:
        """Takes those of the given weights whose name and shape fit. Raises DlcError where none does."""
        specs = self.recipe.network.parameter_specs()
        fitting = {n: a for n, a in weights.items() if n in specs and specs[n].shape == a.shape}
        if not fitting:
            raise DlcError.of(
                "E0832",
                f"no weight of {self.recipe.init_from} has the name and shape of one of {self.recipe.network.name}",
                span=self.recipe.span,
            )
        self.set_weights(fitting)


def _specs(programs: Sequence[Program]) -> dict[str, WeightSpec]:
    """The weights of several programs by name, in the form of the first that has them."""
    return {spec.name: spec for program in reversed(programs) for spec in program.weights}


def options_of(recipe: Recipe) -> TrainingOptions:
    """The recipe as far as the training loop needs it."""
    return TrainingOptions(
        batch=recipe.batch,
        rates=tuple(group.optimizer.lr for group in recipe.optimizers),
        epochs=recipe.epochs,
        steps=recipe.steps,
        schedules=recipe.schedules,
        metrics=recipe.metrics,
        stop=recipe.stop,
        augment=recipe.data.augment,
        seed=recipe.seed,
        scores=recipe.scores,
        loss=RecipeLoss.of(recipe),
        watch=None if recipe.watch is None else Duration(recipe.watch.amount, recipe.watch.unit),
        recipe={
            "name": recipe.name,
            "train": {"batch": str(recipe.batch), "seed": str(recipe.seed), **_what_matters(recipe.settings)},
            "data": dict(recipe.data.settings),
            "model": digest(recipe.network),
        },
        resolved=resolved(recipe),
    )


def _what_matters(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings that decide what comes out: a run goes on with more memory or less."""
    return {name: text for name, text in settings.items() if name != "memory"}


def _compile_best(
    recipe: Recipe, prepared: Prepared, weights: Path, artifact: Path, options: BuildOptions, target: str
) -> None:
    from dlc.compiler.pipeline import make_artifact

    made = make_artifact(
        recipe.network,
        load_weights(weights),
        Target.parse(target, options.cache),
        classes=prepared.classes,
        preprocessing=prepared.preprocessing,
        source=source_facts(recipe.data.source),
        origin=str(weights),
        options=options,
    )
    save_artifact(artifact, made)


def source_facts(source: Source) -> dict[str, Any]:
    """A data source as plain data: its keyword and its arguments."""
    return {"keyword": source.keyword, **{f.name: getattr(source, f.name) for f in dataclasses.fields(source)}}
