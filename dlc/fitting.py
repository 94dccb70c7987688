"""The programs of a recipe, made to fit into the memory that it allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from dlc.compiler.codegen.compiled import Compiled
from dlc.compiler.codegen.memory_budget import within
from dlc.compiler.errors import DlcError
from dlc.compiler.recipe import Recipe
from dlc.runtime.binding import arena_bytes
from dlc.runtime.memory import MemoryPlan, item_bytes, plan_memory
from dlc.runtime.plan import BATCH, Program
from dlc.runtime.training.budget import EVALUATED, Need, sample_bytes, size_text

EVALUATION = 64 * 2**20
"""Bytes that evaluation may take without a budget, even where a step takes less."""


@dataclass(frozen=True)
class Programs:
    """What training runs: the step, or its last part; the parts before, if there are any; evaluation, of at most
    `evaluated` samples at a time. `need` is what they take."""

    last: Compiled
    part: Compiled | None
    evaluation: Compiled
    evaluated: int
    need: Need


def fitted(recipe: Recipe, last: Compiled, part: Compiled | None, evaluation: Compiled) -> Programs:
    """The programs, with as many of a step's activations computed twice as keep all within the recipe's memory.

    Without one, nothing is, and evaluation takes as many images at a time as need no more than a step. Raises DlcError (E0818) where the memory does not suffice even so.
    """
    programs = [made.program for made in (last, part, evaluation) if made is not None]
    weights, samples = _weight_bytes(programs), sample_bytes(last.program, recipe.batch)
    room = None if recipe.memory is None else recipe.memory - weights - samples
    last = _within(last, room)
    part = None if part is None else _within(part, room)
    steps = max(_arena(made.program, last.program.batch) for made in (last, part) if made is not None)
    most = max(steps, EVALUATION) if room is None else room
    fixed = evaluation.program.batch
    choices = _halves(EVALUATED) if fixed == BATCH else [fixed]
    evaluated = next((n for n in choices if _arena(evaluation.program, n) <= most), choices[-1])
    need = Need(weights, max(steps, _arena(evaluation.program, evaluated)), samples)
    if recipe.memory is not None and need.total > recipe.memory:
        raise DlcError.of(
            "E0818",
            f"`memory` allows {size_text(recipe.memory)}, but training needs at least {need}",
            span=recipe.span,
            help="allow more, make `batch` smaller, or keep it and write `accumulate 4`",
        )
    return Programs(last, part, evaluation, evaluated, need)


def fits(compiled: Compiled, arena: int) -> Compiled:
    """A program that runs in an arena of this many bytes, if there is one."""
    return _within(compiled, arena)


def _within(compiled: Compiled, room: int | None) -> Compiled:
    if room is None:
        return compiled
    program = compiled.program
    staged = arena_bytes(program, MemoryPlan(program.batch, {}, 0, 0))
    return dataclasses.replace(compiled, program=within(program, room - staged, program.batch).program)


def _arena(program: Program, batch: int) -> int:
    return arena_bytes(program, plan_memory(program, batch))


def _halves(count: int) -> list[int]:
    """The number, half of it, a quarter of it … 1."""
    return [count >> i for i in range(count.bit_length())]


def _weight_bytes(programs: Iterable[Program]) -> int:
    """What the arrays of all programs take, shared ones counted once."""
    sizes = {s.name: prod(s.shape) * item_bytes(s.dtype) for program in programs for s in program.weights}
    return sum(sizes.values())
