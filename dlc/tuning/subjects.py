"""What is searched: the kernels of a network, those of one convolution in all its forms together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import log, prod

import numpy as np

from dlc.compiler.choices import Choices, Cut, Form
from dlc.compiler.codegen.candidates import Candidate
from dlc.compiler.codegen.emit import Call
from dlc.compiler.codegen.peaks import Peaks
from dlc.compiler.codegen.target import CpuTarget
from dlc.compiler.codegen.workload import digest, identity
from dlc.compiler.passes.forms import Convolution, in_form, transforming
from dlc.compiler.passes.winograd import TILES, form_workload, time_by_tiles
from dlc.compiler.passes.winograd_tasks import direct_time
from dlc.runtime.executor import StepTime
from dlc.tuning.measuring import Kernel
from dlc.tuning.networks import Built, Setting, Tunable

_HOPELESS = 1.6
"""A form that the model thinks so many times slower than the best is not measured."""

_SAVED = 4.0
"""How many times fewer products tiles of 4 need: what bounds a convolution that may be done by tiles."""


@dataclass(eq=False)
class Unit:
    """One kernel in one form. `seconds` is what it takes in the network as it is, all `count` of them.

    `ratio` is the time of the best cut so far to that of the kernel as it is in the network (`home`); `extra` the part of the
    latter that transforming the weight in every step takes. `bound` is the part of the time in the network that the machine's
    peaks allow. `cut` is None where the model's is the best so far, `found` says that it was found now; `before` is the seconds of
    one call of the home kernel alone. `origin` is the same kernel in its home form, None for that itself.
    """

    label: str
    what: str
    call: Call
    setting: Setting
    form: int
    count: int
    seconds: float
    bound: float
    cut: Cut | None = None
    origin: Unit | None = None
    found: bool = False
    queue: list[Cut] | None = None
    kernel: Kernel | None = None
    before: float = 0.0
    ratio: float = 1.0
    extra: float = 0.0
    failures: int = 0

    @property
    def workload(self) -> str:
        """The name of the kernel's choice."""
        return digest(identity(self.call.kernel, self.call.in_place), self.setting.batch)

    @property
    def transforms_before(self) -> bool:
        """Whether it reads a weight that another kernel transformed."""
        convolution = Convolution.of(self.call.kernel)
        return convolution is not None and bool(convolution.tile) and not convolution.inside

    @property
    def potential(self) -> float:
        """Seconds of a call that are still to be had, less where several cuts were of no use."""
        if self.queue is not None and not self.queue:
            return 0.0
        return self.seconds * max(0.0, self.ratio - self.bound) * 0.75**self.failures

    @property
    def times(self) -> tuple[float, float]:
        """Seconds of one call as the network has it and as it was found, each with the transformation of its weight."""
        home = self.origin or self
        return self.before * (1 + home.extra), self.before * (self.ratio + self.extra)

    def candidate(self, cut: Cut | None) -> Candidate:
        """The kernel in a cut."""
        return Candidate(self.call, self.setting.batch, cut)


@dataclass(eq=False)
class Group:
    """Kernels for which one form is chosen together; `form` names that choice, "" where there is none to make.

    `home` is the form that the network has now. `spent` is the seconds that its `turns` took, most of them LLVM's.
    """

    form: str
    home: int
    units: list[Unit] = field(default_factory=list)
    opened: bool = False
    turns: int = 0
    spent: float = 0.0

    @property
    def potential(self) -> float:
        """The sum of what its kernels in their best form may still gain."""
        best = self.best_form()
        return sum(u.potential for u in self.units if u.form == best)

    @property
    def promise(self) -> float:
        """What it may gain, by the seconds that a turn takes."""
        return self.potential / (self.spent / self.turns if self.turns > 1 else 1.0)

    def of(self, form: int) -> list[Unit]:
        """The kernels in a form."""
        return [u for u in self.units if u.form == form]

    def score(self, form: int) -> float:
        """The logarithm of the product of the settings' times: forms are chosen by it, as the model chooses them."""
        times: dict[Setting, float] = {}
        for unit in self.of(form):
            times[unit.setting] = times.get(unit.setting, 0.0) + unit.seconds * (unit.ratio + unit.extra)
        return sum(log(max(t, 1e-12)) for t in times.values())

    def best_form(self) -> int:
        """The form with the least score; another than the network's has to be faster by 3 % in each setting."""
        forms = dict.fromkeys(u.form for u in self.units)
        settings = len({u.setting for u in self.units})
        if not self.opened or len(forms) == 1:
            return self.home
        best = min(forms, key=self.score)
        return best if self.score(best) < self.score(self.home) + settings * log(0.97) else self.home

    def next_unit(self) -> Unit:
        """The kernel on which the next try is spent: in the best form, or in one that may still become it."""
        best = min(self.score(form) for form in dict.fromkeys(u.form for u in self.units))

        def worth(unit: Unit) -> float:
            behind = self.score(unit.form) - best
            return unit.potential * (1.0 if behind < 0.03 else 0.4 if behind < 0.15 else 0.05)

        return max(self.units, key=worth)


def subjects(
    network: Tunable,
    built: Built,
    profiles: Sequence[Sequence[StepTime]],
    choices: Choices,
    target: CpuTarget,
    peaks: Peaks,
) -> list[Group]:
    """The kernels of a network, with the times of its steps for each of its settings."""
    streamed = network.streams_weights(target)
    groups: dict[str, Group] = {}
    names = [step.kernel for step in built.compiled.program.steps]
    for setting, profile in zip(network.settings, profiles, strict=True):
        taken: dict[str, list[StepTime]] = {}
        for name, step in zip(names, profile, strict=True):
            taken.setdefault(name, []).append(step)
        for name, steps in taken.items():
            unit = _unit(built.compiled.calls[name], setting, steps, choices, peaks)
            convolution = Convolution.of(unit.call.kernel)
            if convolution is None:
                groups[unit.workload] = Group("", 0, [unit])
                continue
            shape = convolution.shape(target.lanes, streamed=streamed)
            form = form_workload(shape, network.batches, trained=network.trained)
            group = groups.setdefault(form, Group(form, convolution.tile))
            group.units.append(unit)
            for tile, inside in _forms(convolution, network, target, streamed=streamed):
                if tile != convolution.tile:
                    group.units.append(_in_form(unit, tile, inside, choices, target))
    return list(groups.values())


def _unit(call: Call, setting: Setting, steps: Sequence[StepTime], choices: Choices, peaks: Peaks) -> Unit:
    """A kernel in the form that it has, with what the steps took that it is called in."""
    convolution, first = Convolution.of(call.kernel), steps[0]
    seconds = sum(step.seconds for step in steps)
    least = len(steps) * first.flops / peaks.flops / (_SAVED if convolution else 1.0)
    form = convolution.tile if convolution else 0
    unit = Unit(first.layer, first.what, call, setting, form, len(steps), seconds, least / max(seconds, 1e-9))
    unit.cut = choices.cut(unit.workload)
    return unit


def _forms(convolution: Convolution, network: Tunable, target: CpuTarget, *, streamed: bool) -> list[tuple[int, bool]]:
    """The forms that the model does not rule out: tiles (0: direct), and whether weights are transformed inside, by the model."""
    batches = network.batches
    shape = replace(convolution.shape(target.lanes, streamed=streamed), inside=not convolution.turned)
    times = {(0, False): prod(direct_time(shape, b, target.machine) for b in batches)}
    for tile in TILES:
        time, inside = time_by_tiles(shape, tile, batches, target.machine, once=not network.trained)
        times[tile, inside] = time
    return [form for form, time in times.items() if time < min(times.values()) * _HOPELESS ** len(batches)]


def _in_form(unit: Unit, tile: int, inside: bool, choices: Choices, target: CpuTarget) -> Unit:
    call = Call(in_form(unit.call.kernel, tile, target.lanes, inside=inside), unit.call.in_place)
    made = replace(unit, what=call.kernel.what, call=call, form=tile, origin=unit)
    made.cut = choices.cut(made.workload)
    return made


def form_of(group: Group) -> Form | None:
    """The choice of a form that differs from the network's; None where it stays."""
    best = group.best_form()
    return Form(best) if group.form and best != group.home else None


def weight_arrays(unit: Unit, packed: np.ndarray, target: CpuTarget) -> dict[int, np.ndarray]:
    """The weight of a unit's convolution, from the packed one, by its position among the kernel's inputs."""
    convolution, anchor = Convolution.of(unit.call.kernel), unit.call.kernel.anchor
    assert convolution is not None and anchor is not None
    position = unit.call.kernel.inputs.index(anchor.operands[1])
    if not unit.form or convolution.inside:
        return {position: packed}
    return {position: convolution.weights(unit.form, target.lanes).reference(packed)}


def transforming_call(unit: Unit, target: CpuTarget) -> Call:
    """The kernel that transforms the weight of a unit's convolution in every step."""
    convolution = Convolution.of(unit.call.kernel)
    assert convolution is not None and unit.form
    return Call(transforming(convolution, unit.form, target.lanes), {})
