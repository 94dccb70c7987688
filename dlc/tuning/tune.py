"""`dlc tune`: measures choices for a network's kernels, and keeps in the database what makes the whole network faster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from dlc.api import one_network, recipe_of
from dlc.compiler.choices import Choice, Choices
from dlc.compiler.codegen.cache import Cache, user_cache
from dlc.compiler.codegen.target import CpuTarget, Target
from dlc.compiler.codegen.tuning import Database, Measured, user_database
from dlc.compiler.errors import DlcError
from dlc.compiler.pipeline import target_spec
from dlc.runtime import threads as pool
from dlc.runtime.device import check_cpu
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.executor import StepTime
from dlc.tuning.measuring import agree, alternate, timed
from dlc.tuning.networks import Built, Inference, Training, Tunable
from dlc.tuning.search import Search
from dlc.tuning.subjects import Group, Unit, form_of, subjects

_CHECK = 3.0
"""Seconds in which the whole network is measured with what was found and without, for each number of samples."""

_ROUNDS = 21

Report = Callable[[str, float], object]
"""Is told what is done now, and what part of the time is over (0 to 1)."""


@dataclass(frozen=True)
class Gain:
    """A kernel for which something faster was found: microseconds of a call with the network's choice and with this one.

    `count` is how many kernels of the network are this one, on `samples` samples.
    """

    layer: str
    kernel: str
    samples: int
    count: int
    before_us: float
    after_us: float
    choice: str


@dataclass(frozen=True)
class Whole:
    """The whole network on a number of samples: median milliseconds before, and the ratio of times after to before."""

    samples: int
    before_ms: float
    ratio: float


@dataclass(frozen=True)
class TuningReport:
    """What a search found. `kept` says whether the database has it now: it does where the network is not slower.

    `tried` cuts were measured, `refused` were wrong; `damaged` counts lines of the database that could not be read.
    """

    name: str
    gains: tuple[Gain, ...]
    whole: tuple[Whole, ...]
    kept: bool
    tried: int
    refused: int
    seconds: float
    stopped: bool
    database: Path
    damaged: int = 0


def tune(
    spec: str | Path,
    *,
    model: str | None = None,
    minutes: float = 5.0,
    batch: int | None = None,
    train: bool = False,
    recipe: str | None = None,
    target: str = "cpu",
    database: str | Path | None = None,
    report: Report = lambda what, part: None,
) -> TuningReport:
    """Searches for `minutes` among the cuts of a model's kernels and the forms of its convolutions; keeps what is faster.

    Without `batch` the kernels of a program for any number of samples are tuned, those for one and those for many. With `train`
    those of a recipe's training step. Ctrl-C ends the search early: what was found is checked and kept. Raises DlcError for
    mistakes in the spec, for a target whose code does not run here (E0890), and where the database cannot be written (E0891).
    """
    started, cache = perf_counter(), user_cache()
    chosen = _target(target, cache)
    kept = _database(database)
    network: Tunable
    if train:
        network = Training(recipe_of(spec, recipe), chosen, cache)
    else:
        network = Inference(one_network(spec, model=model), chosen, batch, cache)
    reading = kept.read(chosen)
    search, groups, built, stopped = _search(network, reading.choices, chosen, started + 60 * minutes, report)
    report("measuring the whole network", 1.0)
    gains, whole, choices = _checked(network, built, groups, reading.choices)
    if gains:
        _keep(kept, chosen, choices)
    found = gains or _gains(groups, forms=True)
    seconds = perf_counter() - started
    return TuningReport(
        network.name,
        tuple(found),
        tuple(whole),
        bool(gains),
        search.tried,
        search.refused,
        seconds,
        stopped,
        kept.path,
        reading.damaged,
    )


def _target(name: str, cache: Cache | None) -> CpuTarget:
    target = Target.parse(name, cache)
    advice = "tune on the machine that it is for"
    if not isinstance(target, CpuTarget):
        raise DlcError.of("E0890", f"kernels for {name} cannot be tuned: only those of processors can", help=advice)
    try:
        spec = target_spec(target)
        check_cpu(spec.triple, spec.features)
    except RuntimeFault as fault:
        raise DlcError.of("E0890", f"code for {name} does not run on this machine", help=advice) from fault
    return target


def _database(path: str | Path | None) -> Database:
    found = user_database() if path is None else Database(Path(path))
    if found is None:
        raise DlcError.of("E0891", "the user's cache folder cannot be used", help="name a file with --database")
    try:  # before minutes are spent
        found.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(found, error.strerror or str(error)) from error
    if not os.access(found.path if found.path.exists() else found.path.parent, os.W_OK):
        raise _not_written(found, "it is not allowed")
    return found


def _not_written(database: Database, reason: str) -> DlcError:
    message = f"{database.path} cannot be written: {reason}"
    return DlcError.of("E0891", message, help="name another with --database")


def _search(
    network: Tunable, choices: Choices, target: CpuTarget, until: float, report: Report
) -> tuple[Search, list[Group], Built, bool]:
    from dlc.compiler.codegen.peaks import machine_peaks

    began = perf_counter()

    def tell(what: str) -> None:
        report(what, min(1.0, (perf_counter() - began) / max(until - began, 1e-9)))

    threads = pool.resolve(None)
    tell("measuring the machine")
    peaks = machine_peaks(threads, user_cache())
    tell("compiling the network")
    built = network.build(choices)
    tell("measuring the network")
    profiles = [_profile(built, s.samples) for s in network.settings]
    groups = subjects(network, built, profiles, choices, target, peaks)
    footprint = sum(array.nbytes for array in built.weights.values())
    search = Search(groups, target, threads, footprint, network.trained)
    try:
        search.run(until, lambda group: tell(f"{group.units[0].label or group.units[0].what} {_progress(groups)}"))
    except KeyboardInterrupt:
        return search, groups, built, True
    return search, groups, built, False


def _progress(groups: Sequence[Group]) -> str:
    gain = sum(u.seconds * (1 - u.ratio) for g in groups for u in _chosen(g))
    whole = sum(u.seconds for g in groups for u in g.units if u.origin is None)
    return f"({gain / max(whole, 1e-12):.1%} found)"


def _profile(built: Built, samples: int) -> list[StepTime]:
    """The times of the steps, in about a second."""
    feeds = built.feeds(samples)
    seconds = timed(built.executor.run, lambda: feeds)()
    return built.executor.profile(feeds, max(5, min(200, int(1.0 / seconds))))


def _chosen(group: Group, *, forms: bool = True) -> list[Unit]:
    """The kernels of a group in the form that it should have, or in the one that it has."""
    return group.of(group.best_form() if forms else group.home)


def _measured(groups: Sequence[Group], *, forms: bool) -> list[Measured]:
    """What is worth keeping: forms that differ from the network's, and cuts that were found."""
    found = []
    for group in groups:
        form = form_of(group) if forms else None
        units = _chosen(group, forms=forms)
        if form is not None:
            before, after = (sum(times) * 1e6 for times in zip(*(u.times for u in units), strict=True))
            found.append(Measured(group.form, group.form, form, before, after))
        for unit in units:
            if unit.found and unit.cut is not None:
                after = unit.before * unit.ratio
                found.append(Measured(unit.workload, unit.what, unit.cut, unit.before * 1e6, after * 1e6))
    return found


def _gains(groups: Sequence[Group], *, forms: bool) -> list[Gain]:
    """The kernels that `_measured` is about, as a person reads them."""
    gains = []
    for group in groups:
        form = form_of(group) if forms else None
        for unit in _chosen(group, forms=forms):
            said = [str(c) for c in (form, unit.cut if unit.found else None) if c is not None]
            if said:
                before, after = (1e6 * seconds for seconds in unit.times)
                gains.append(
                    Gain(unit.label, unit.what, unit.setting.samples, unit.count, before, after, "; ".join(said))
                )
    return sorted(gains, key=lambda g: -g.count * (g.before_us - g.after_us))


def _checked(
    network: Tunable, built: Built, groups: Sequence[Group], choices: Choices
) -> tuple[list[Gain], list[Whole], list[Measured]]:
    """The gains that do not make the network slower, its times with them, and the choices to keep.

    Where other forms of convolutions make it slower, the cuts alone are tried. Empty where these do too, or nothing was found.
    """
    whole: list[Whole] = []
    for forms in (True, False):
        measured = _measured(groups, forms=forms)
        if not measured or (not forms and not any(form_of(g) for g in groups)):
            continue
        merged: dict[str, Choice] = {**choices.measured, **{m.workload: m.choice for m in measured}}
        tuned = network.build(Choices(merged))
        whole = [_whole(built, tuned, s.samples) for s in network.settings]
        if all(w.ratio <= 1.0 for w in whole):
            return _gains(groups, forms=forms), whole, measured
    return [], whole, []


def _whole(before: Built, after: Built, samples: int) -> Whole:
    feeds = before.feeds(samples)
    results, expected = after.executor.run(feeds), before.executor.run(feeds)
    if not agree([results[name] for name in expected], list(expected.values())):
        raise AssertionError("the tuned network's results differ from those before")
    one, other = timed(before.executor.run, lambda: feeds), timed(after.executor.run, lambda: feeds)
    compared = alternate(one, other, _CHECK, _ROUNDS)
    return Whole(samples, median(compared.one.tolist()) * 1e3, compared.ratio)


def _keep(database: Database, target: CpuTarget, measured: Sequence[Measured]) -> None:
    try:
        database.add(target, measured)
    except OSError as error:
        raise _not_written(database, error.strerror or str(error)) from error
