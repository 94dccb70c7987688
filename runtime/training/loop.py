"""The training loop around a compiled step: batches in, weights updated in place, checkpoints and a log out."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dlc.runtime.ahead import announced
from dlc.runtime.atomic import write_fault
from dlc.runtime.data.augment import MakeWarp, plain_warp
from dlc.runtime.data.loader import Batch, Loader
from dlc.runtime.data.prepare import Prepared
from dlc.runtime.data.sources.base import Split
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.training.checkpoint import BEST, LAST, RESUME, Checkpoints, Mirror, TrainingState, Weights
from dlc.runtime.training.divergence import DIVERGED, NOT_FINITE, diverged
from dlc.runtime.training.evaluate import evaluate
from dlc.runtime.training.events import Events
from dlc.runtime.training.feed import Feed, image_input, main_labels
from dlc.runtime.training.log import LAYERS, METRICS, RECIPE, Log
from dlc.runtime.training.metrics.base import larger_is_better
from dlc.runtime.training.metrics.error import Error
from dlc.runtime.training.monitors import monitored
from dlc.runtime.training.options import Interrupted, TrainingOptions, TrainingResult, total_steps
from dlc.runtime.training.parts import Runnable
from dlc.runtime.training.progress import Progress, Silent
from dlc.runtime.training.rates import Rates
from dlc.runtime.training.schedules.base import WINDOW, Condition
from dlc.runtime.training.signals import StopRequest
from dlc.runtime.training.watch import Watch


class Trainer:
    """Trains the weights that `step` updates in place.

    `step` is the training program's executor for a fixed batch, `evaluation` the evaluation program's for any; both run
    on the arrays of `weights` (name -> array in the form that kernels read), which hold the initial weights.
    """

    def __init__(
        self,
        step: Runnable,
        evaluation: Runnable,
        weights: Mapping[str, np.ndarray],
        data: Prepared,
        options: TrainingOptions,
        out: Path,
        progress: Progress | None = None,
        make_warp: MakeWarp = plain_warp,
        make_watch: Callable[[], Watch] | None = None,
        mirror: Mirror | None = None,
        expect: Callable[[Mapping[str, Any]], object] | None = None,
    ) -> None:
        """`make_warp` gives what moves the pixels of augmented images, `make_watch` what measures steps. `mirror` is where the
        programs work on copies of the arrays, `expect` is told the samples of the step that comes after the next one.

        Raises RuntimeFault where data and recipe do not go together: too few samples, nothing to monitor."""
        self.options, self.data, self.out = options, data, out
        self._step, self._evaluation = step, evaluation
        self._progress: Progress = progress or Silent()
        self._checkpoints = Checkpoints(out, Weights(step.program, weights, mirror))
        self._log, self._events = Log(out), Events(out)
        self._loader = Loader(
            data.train,
            data.preprocessing,
            batch=options.batch,
            augment=options.augment,
            seed=options.seed,
            make_warp=make_warp,
        )
        self.steps_per_epoch = self._loader.steps_per_epoch
        self.total = total_steps(options, self.steps_per_epoch)
        self._rates = Rates(options.schedules, options.rates, steps=self.total, steps_per_epoch=self.steps_per_epoch)
        self._metrics = tuple({metric.name: metric for metric in (Error(), *options.metrics)}.values())
        self._scalars = tuple(metric for metric in self._metrics if metric.scalar)
        self._make_watch = make_watch
        self._watch: Watch | None = None
        every = options.watch.steps(self.steps_per_epoch) if options.watch is not None and make_watch is not None else 0
        self._watch_every = max(round(every), 1) if every else 0
        self._monitor = self._monitored()
        self._feed = Feed(step.program, options.seed)
        self._expect = expect
        self._scores = options.scores or next(
            spec.name for spec in evaluation.program.outputs if not spec.name.startswith("train.")
        )

    def run(self, *, resume: bool = False) -> TrainingResult:
        """Trains to the end, evaluates the best weights on the test part and leaves them in the arrays.

        With `resume`, goes on from the run's last checkpoint, with weights equal bit for bit to those of a run that was
        never interrupted; a run that is finished is only evaluated. Without, an earlier run in the directory is replaced.
        Raises RuntimeFault where training diverges, the disk is full, or the checkpoint belongs to another recipe;
        Interrupted after SIGINT or SIGTERM. The last good checkpoint stays in all these cases.
        """
        for note in self.data.notes:
            self._progress.note(note)
        state = self._restored() if resume else None
        if state is None:
            state = self._begun(resume)
        if not state.finished:
            with StopRequest() as request:
                self._progress.start(state.step, self.total, self.steps_per_epoch, self.options.batch)
                try:
                    self._train(state, request)
                except RuntimeFault as fault:
                    if fault.code in (DIVERGED, NOT_FINITE) and self._make_watch is not None:
                        raise self._explained(fault, state.step) from fault
                    raise
                finally:
                    self._progress.close()
        self._checkpoints.restore_best()
        test = {name: value for name, value in self._evaluate(self.data.test).items() if not isinstance(value, list)}
        epochs = len(state.history)
        return TrainingResult(test, epochs, state.step, state.elapsed, state.best_epoch, tuple(state.history), self.out)

    def _train(self, state: TrainingState, request: StopRequest) -> None:
        clock = _Clock(state)
        saved_step, saved_at = state.step, time.perf_counter()
        with closing(self._loader.batches(state.step, self.total)) as batches:
            for batch in batches if self._expect is None else announced(batches, self._announce):
                self._make_step(state, batch)
                if state.step % self.steps_per_epoch == 0 or state.step == self.total:
                    clock.read()
                    self._end_epoch(state)
                    clock.new_epoch()
                    if state.finished:
                        return
                elif request.signal or self._save_due(state.step - saved_step, time.perf_counter() - saved_at):
                    clock.read()
                    self._checkpoints.save(state)
                else:
                    continue
                if request.signal:
                    self._checkpoints.export(LAST, state)
                    raise Interrupted(state.step, self.out, request.signal)
                saved_step, saved_at = state.step, time.perf_counter()

    def _announce(self, batch: Batch) -> None:
        if self._expect is not None:
            self._expect(self._feed.samples(batch))

    def _explained(self, fault: RuntimeFault, step: int) -> RuntimeFault:
        """A fault of training that diverged, with the layer where numbers first stopped being finite.

        Training is made again from the checkpoint, which is exact, and measured before every step.
        """
        self._progress.note(f"{fault.message}: looking for the layer where it began")
        state = self._checkpoints.restore()
        assert state is not None, "a run begins with a checkpoint"
        kept, finding, at = state.step, None, state.step
        with closing(self._loader.batches(state.step, min(step + 1, self.total))) as batches:
            for batch in batches:
                at, finding = state.step, self._watching().first_not_finite(self._feeds(state, batch))
                if finding is not None:
                    break
                try:
                    self._make_step(state, batch)
                except RuntimeFault:
                    break
        return diverged(fault.message, finding, at, f"{self.out / RESUME}, of step {kept}")

    def _watching(self) -> Watch:
        if self._watch is None:
            assert self._make_watch is not None
            self._watch = self._make_watch()
        return self._watch

    def _save_due(self, steps: int, seconds: float) -> bool:
        limit = self.options.save_steps
        return seconds >= self.options.save_seconds or (limit is not None and steps >= limit)

    def _feeds(self, state: TrainingState, batch: Batch) -> dict[str, Any]:
        """The inputs of the step that comes next."""
        return self._feed(batch, state.step, self._rates.at(state.step, state.history, state.ends))

    def _make_step(self, state: TrainingState, batch: Batch) -> None:
        feeds = self._feeds(state, batch)
        if self._watch_every and state.step % self._watch_every == 0:
            epoch = round(state.step / self.steps_per_epoch, 4)
            self._log.append(LAYERS, {"step": state.step, "epoch": epoch, **self._watching().scales(feeds)})
        outputs = self._step.run(feeds)
        loss = float(outputs["train.loss"])
        if not math.isfinite(loss):
            raise diverged(f"the loss is {loss} at step {state.step} (epoch {state.step // self.steps_per_epoch + 1})")
        sums = state.sums
        values = {"loss": loss}
        if self._scores in outputs:
            labels = main_labels(batch)
            values |= {m.name: m.total(outputs[self._scores], labels) for m in self._scalars}
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
        state.step += 1
        waiting = self._rates.waits_for(state.step - 1, state.ends)
        if waiting is not None:
            self._look(state, *waiting, values)
        done = (state.step - 1) % self.steps_per_epoch + 1
        self._progress.step(state.step, sums["loss"] / done, sums.get("error", 0.0) / (done * self.options.batch))

    def _look(self, state: TrainingState, place: int, condition: Condition, values: Mapping[str, float]) -> None:
        """Whether what a schedule waits for is the case, by the values of a step just made."""
        part, _, name = condition.monitor.partition(".")
        if part != "train":
            return
        value = values[name] if name == "loss" else values[name] / self.options.batch
        state.recent = [*state.recent, value][-WINDOW:]
        if len(state.recent) == WINDOW and condition.holds(sum(state.recent) / WINDOW):
            state.ends[place], state.recent = state.step, []

    def _end_epoch(self, state: TrainingState) -> None:
        steps = (state.step - 1) % self.steps_per_epoch + 1
        rates = self._rates.at(state.step - 1, state.history, state.ends)
        record: dict[str, Any] = {"epoch": len(state.history) + 1, "step": state.step}
        for name, total in state.sums.items():
            record[f"train.{name}"] = total / (steps if name == "loss" else steps * self.options.batch)
        if self.data.validation is not None:
            record |= {f"val.{name}": value for name, value in self._evaluate(self.data.validation).items()}
        tables = {name: record.pop(name) for name in list(record) if not isinstance(record[name], int | float)}
        for name, value in record.items():
            if not math.isfinite(value):
                raise diverged(f"{name} is {value} after step {state.step} (epoch {int(record['epoch'])})")
        record["lr"] = rates[0]
        record |= {f"lr.{group}": rate for group, rate in enumerate(rates) if group}
        record["seconds"] = round(state.elapsed, 3)
        record["images_per_second"] = round(steps * self.options.batch / max(state.seconds, 1e-9), 1)
        state.history.append(record)
        state.sums, state.seconds = {}, 0.0
        waiting = self._rates.waits_for(state.step - 1, state.ends)
        if waiting is not None and waiting[1].monitor in record and waiting[1].monitor.startswith("val."):
            place, condition = waiting
            if condition.holds(record[condition.monitor]):
                state.ends[place] = state.step
        stops = self.options.stop is not None and self.options.stop.stops(state.history)
        state.finished = stops or state.step >= self.total
        # The weight files first: were the process killed before the resume file is there, the epoch is made again,
        # and writes the same files.
        if self._is_best(state, record):
            self._checkpoints.export(BEST, state)
        self._checkpoints.export(LAST, state)
        self._log.append(METRICS, {**record, **tables})
        self._checkpoints.save(state)
        self._events.append(record)
        self._progress.epoch(record)
        if stops and state.step < self.total:
            self._progress.note(f"stopped early: {self._monitor} was best after epoch {state.best_epoch}")

    def _is_best(self, state: TrainingState, record: Mapping[str, float]) -> bool:
        """Whether the epoch is the best so far; without anything to monitor, the latest always is."""
        epoch = int(record["epoch"])
        if self._monitor is None:
            state.best_epoch = epoch
            return True
        value = record[self._monitor]
        if state.best is not None:
            better = value > state.best if larger_is_better(self._monitor) else value < state.best
            if not better:
                return False
        state.best, state.best_epoch = value, epoch
        return True

    def _evaluate(self, split: Split) -> dict[str, Any]:
        name = image_input(self._evaluation.program)
        return evaluate(
            lambda images: self._evaluation.run({name: images})[self._scores],
            split,
            self.data.preprocessing,
            self._metrics,
            loss=self.options.loss,
        )

    def _monitored(self) -> str | None:
        """What decides which epoch is the best. Raises RuntimeFault where a rule looks at what is not measured."""
        names = [f"train.{name}" for name in ("loss", *(m.name for m in self._scalars))]
        validated = ["val.loss"] if self.options.loss is not None else []
        validated += [f"val.{metric.name}" for metric in self._scalars]
        if self.data.validation is not None:
            names += validated
        return monitored(self.options, names, validated)

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a run to go on, as JSON gives it back."""
        facts = {
            "recipe": dict(self.options.recipe),
            "samples": self.data.fingerprint,
            "preprocessing": zlib.crc32(msgspec.json.encode(self.data.preprocessing)),
            "augment": [str(transform) for transform in self.options.augment],
            "seed": self.options.seed,
            "batch": self.options.batch,
            "steps": self.total,
        }
        identity: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(facts))
        return identity

    def _begun(self, resume: bool) -> TrainingState:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            self._checkpoints.clear()
        except OSError as error:
            raise write_fault(self.out, error) from error
        if resume:
            self._progress.note(f"nothing is saved in {self.out} yet: starting at the beginning")
        state = TrainingState(self._identity(), sums={}, history=[], recent=[], ends={})
        self._log.clear()
        self._events.rewrite([], 0.0)
        self._log.write(
            RECIPE,
            {
                **self.options.recipe,
                "resolved": self.options.resolved,
                "augment": [str(transform) for transform in self.options.augment],
                "preprocessing": self.data.preprocessing,
                "classes": self.data.classes,
                "samples": self.data.fingerprint,
            },
        )
        self._checkpoints.save(state)
        return state

    def _restored(self) -> TrainingState | None:
        state = self._checkpoints.restore()
        if state is None:
            return None
        differing = list(_differences(state.identity, self._identity()))
        if differing:
            raise RuntimeFault(
                "R0426",
                f"the run in {self.out} was made with another recipe: {'; '.join(differing[:5])}",
                help="use the recipe it was begun with (recipe.json), or begin a run in another directory",
            )
        self._log.cut(state.step, state.history)
        self._events.rewrite(state.history, state.elapsed)
        if not state.finished:
            self._progress.note(f"going on from step {state.step} of {self.total}")
        return state


class _Clock:
    """The time of the run and of its unfinished epoch, kept in the state."""

    def __init__(self, state: TrainingState) -> None:
        now = time.perf_counter()
        self._state, self._run, self._epoch = state, now - state.elapsed, now - state.seconds

    def read(self) -> None:
        """Brings the state up to date."""
        now = time.perf_counter()
        self._state.elapsed, self._state.seconds = now - self._run, now - self._epoch

    def new_epoch(self) -> None:
        """The next epoch begins now."""
        self._epoch = time.perf_counter()


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two values made of dictionaries differ, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [
            line for key in keys for line in _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    name = path.removeprefix("recipe.")
    return [] if old == new else [f"{name} was {_shown(old)}, now {_shown(new)}"]


def _shown(value: Any) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) <= 80 else text[:79] + "…"
