"""The search: minutes go to the kernels where the most is to gain, one after the other.

Each turn takes the group of kernels that promises the most: the time that they take in the network, less what the machine's peaks
allow, less for each try that was of no use, by the seconds of a turn. A cut that looks faster in a few rounds has to win again in more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from dlc.compiler.choices import Cut
from dlc.compiler.codegen.candidates import Candidate, compile_candidates, is_the_model_s
from dlc.compiler.codegen.space import cuts
from dlc.compiler.codegen.target import CpuTarget
from dlc.compiler.passes.forms import Convolution
from dlc.runtime import threads as pool
from dlc.runtime.arrays import aligned_copy
from dlc.tuning.measuring import Arrays, Kernel, agree, alternate, repeated
from dlc.tuning.subjects import Group, Unit, transforming_call, weight_arrays

_BETTER = 0.97
"""A cut must take at most this part of the best one's time so far."""

_LOOK, _CONFIRM, _ROUNDS = 0.03, 0.2, 15
"""Seconds in which a cut may show that it is faster, and in which, with so many rounds, it has to show it again."""

_LEAST = 0.002
"""What part of the network's time must be to be had somewhere for the search to go on."""


@dataclass
class Search:
    """Searches groups of kernels. `footprint` is the bytes of the network's weights; `trained` says that they change.

    `tried` counts cuts that were measured, `refused` those whose results were wrong.
    """

    groups: Sequence[Group]
    target: CpuTarget
    threads: int
    footprint: int
    trained: bool
    tried: int = 0
    refused: int = 0

    def run(self, until: float, report: Callable[[Group], object]) -> None:
        """Goes on until that time of `perf_counter`, or until little is left to gain; `report` is told of each turn before it."""
        whole = sum(u.seconds for g in self.groups for u in g.units if u.origin is None)
        while perf_counter() < until:
            group = max(self.groups, key=lambda g: g.promise, default=None)
            if group is None or max(g.potential for g in self.groups) < _LEAST * whole:
                return
            report(group)
            began = perf_counter()
            self.turn(group)
            group.turns += 1
            group.spent += perf_counter() - began

    def turn(self, group: Group) -> None:
        """Measures the group's forms against each other, or, after that, the next cuts of one kernel."""
        if not group.opened:
            if group.form or self._cuts_of(group.units[0]):
                self._open(group)
            group.opened = True
            return
        unit = group.next_unit()
        queue = self._cuts_of(unit)
        batch: list[Cut] = []
        while queue and len(batch) < self.target.cores:
            cut = queue.pop(0)
            if not is_the_model_s(unit.candidate(cut), self.target):
                batch.append(cut)
        if not batch:
            return
        kernels = compile_candidates([unit.candidate(cut) for cut in batch], self.target)
        assert unit.kernel is not None
        arrays = self._arrays(unit)
        pool.enter(self.threads)
        try:
            expected = arrays.computed(unit.kernel)
            for cut, kernel in zip(batch, kernels, strict=True):
                self.tried += 1
                if not agree(arrays.computed(kernel), expected):
                    self.refused += 1
                    continue
                ratio = self._faster(unit.kernel, kernel, arrays)
                unit.failures += 1
                if ratio < 1:
                    unit.cut, unit.kernel, unit.found, unit.failures = cut, kernel, True, 0
                    unit.ratio *= ratio
        finally:
            pool.leave()

    def _cuts_of(self, unit: Unit) -> list[Cut]:
        """The cuts of a kernel that were not tried yet."""
        if unit.queue is None:
            unit.queue = list(cuts(unit.call, unit.setting.batch, unit.setting.samples, self.target))
        return unit.queue

    def _faster(self, best: Kernel, kernel: Kernel, arrays: Arrays) -> float:
        """The kernel's part of the best one's time, 1 where it is not faster for certain."""
        one, other = repeated(best, arrays), repeated(kernel, arrays)
        if alternate(one, other, _LOOK).ratio > _BETTER:
            return 1.0
        confirmed = alternate(one, other, _CONFIRM, _ROUNDS)
        return confirmed.ratio if confirmed.other_is_faster(_BETTER) else 1.0

    def _open(self, group: Group) -> None:
        """Compiles every kernel of a group in every form, and measures each against the one that the network has now."""
        kernels = compile_candidates([u.candidate(u.cut) for u in group.units], self.target)
        for unit, kernel in zip(group.units, kernels, strict=True):
            unit.kernel = kernel
        pool.enter(self.threads)
        try:
            for home in [u for u in group.units if u.origin is None]:
                assert home.kernel is not None
                arrays = self._arrays(home)
                one = repeated(home.kernel, arrays)
                home.before = min(one() for _ in range(5))
                expected = arrays.computed(home.kernel)
                for unit in [u for u in group.units if u.origin is home]:
                    assert unit.kernel is not None
                    own = self._arrays(unit)
                    if agree(own.computed(unit.kernel), expected):
                        unit.ratio = alternate(one, repeated(unit.kernel, own), _CONFIRM, _ROUNDS).ratio
                        unit.before = home.before
                    else:
                        self.refused += 1
                        group.units.remove(unit)
                    self.tried += 1
            if self.trained:
                self._add_transforms(group)
        finally:
            pool.leave()
        complete = len(group.of(group.home))
        group.units = [u for u in group.units if len(group.of(u.form)) == complete]

    def _add_transforms(self, group: Group) -> None:
        """The time that transforming weights takes in every step, as a part of the home kernel's."""
        by_tiles = [u for u in group.units if u.transforms_before]
        calls = [transforming_call(u, self.target) for u in by_tiles]
        candidates = [Candidate(call, unit.setting.batch) for unit, call in zip(by_tiles, calls, strict=True)]
        made = compile_candidates(candidates, self.target)
        for unit, call, kernel in zip(by_tiles, calls, made, strict=True):
            arrays = Arrays.of(call, unit.setting.samples, self.footprint)
            run = repeated(kernel, arrays)
            unit.extra = min(run() for _ in range(5)) / unit.before

    def _arrays(self, unit: Unit) -> Arrays:
        """Arrays to call a kernel with: the same for all its forms."""
        convolution, given = Convolution.of(unit.call.kernel), {}
        if convolution is not None:
            shape = convolution.weights(unit.form or 2, self.target.lanes).weight_shape
            packed = np.random.default_rng(1).standard_normal(shape, np.float32)
            given = {p: aligned_copy(a) for p, a in weight_arrays(unit, packed, self.target).items()}
        just_made = self.trained and unit.transforms_before  # by the kernel that transforms weights
        return Arrays.of(unit.call, unit.setting.samples, 0 if just_made else self.footprint, given)
